"""The worker's entry in the cluster's registry."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kindling.platform.etcd import EtcdClient
from kindling.platform.etcd_records import encode_record, worker_key
from kindling.platform.registration import registered
from kindling.v1 import state_pb2


@asynccontextmanager
async def in_registry(
    etcd: EtcdClient, prefix: str, record: state_pb2.WorkerRecord, ttl_seconds: float
) -> AsyncIterator[None]:
    """Be listed as ``record`` inside the context, as soon as and whenever etcd can be reached; does not wait for it."""
    async with registered(etcd, worker_key(prefix, record.worker_id), encode_record(record), ttl_seconds):
        yield
