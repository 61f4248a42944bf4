"""The inference worker: one per accelerator, runs models."""
