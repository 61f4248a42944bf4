"""The kindling command: a client of the public API, and a local cluster."""
