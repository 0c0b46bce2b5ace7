"""From PaddlePaddle models to bundles that a device runs; used on a host only."""
