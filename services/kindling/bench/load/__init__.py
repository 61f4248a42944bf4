"""`kindling bench load`: how fast checkpoints load, beside other loaders and what the hardware can do at most."""
