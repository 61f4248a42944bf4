"""Runs the scheduler's own policy against a cluster that exists in virtual time only."""
