"""The scheduler's outside world: etcd, workers, storage managers."""
