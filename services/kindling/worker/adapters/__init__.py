"""The worker's outside world: engines, mapped checkpoints, the storage manager, etcd."""
