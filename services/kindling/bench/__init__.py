"""Benchmarks that a user can run: kindling bench."""
