"""The storage manager's outside world: disks, shared memory, sockets, etcd."""
