"""Measures how many decisions the scheduler makes in a second, and how that grows with the cluster."""
