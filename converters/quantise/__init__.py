"""Chooses integers for weights, and convolutions to compute with them, from calibration pictures."""
