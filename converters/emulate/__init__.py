"""Counts what ARM executes: a bundle's networks on the real Paddle-Lite library, under an emulator that counts."""
