"""An asyncio client of etcd's v3 API."""
