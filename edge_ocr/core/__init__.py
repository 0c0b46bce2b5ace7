"""What host and boards share: detection, recognition, geometry. Needs numpy, opencv and pyclipper only."""
