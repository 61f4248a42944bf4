"""Measures how well the simulator foretells what a real cluster on this machine does."""
