"""The gateway's outside world: tokenizers, the scheduler, workers."""
