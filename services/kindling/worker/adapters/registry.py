"""The worker's entry in the cluster's registry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kindling.platform.etcd import Credentials, EtcdClient, TlsConfig
from kindling.platform.etcd_records import encode_record, worker_key
from kindling.platform.registration import Registration
from kindling.platform.settings import ServiceSettings
from kindling.v1 import state_pb2


def etcd_client(settings: ServiceSettings) -> EtcdClient:
    """Return a client of the cluster's etcd, with the certificates and the password that the settings give."""
    tls = None
    if settings.etcd_tls_ca:
        files = (settings.etcd_tls_ca, settings.etcd_tls_cert, settings.etcd_tls_key)
        tls = TlsConfig(*(Path(file) if file else None for file in files))
    credentials = Credentials(settings.etcd_user, settings.etcd_password) if settings.etcd_user else None
    return EtcdClient(settings.etcd_endpoint_list, tls=tls, credentials=credentials)


@asynccontextmanager
async def in_registry(
    etcd: EtcdClient, prefix: str, record: state_pb2.WorkerRecord, ttl_seconds: float
) -> AsyncIterator[None]:
    """Be listed as ``record`` inside the context, as soon as and whenever etcd can be reached; does not wait for it."""
    registration = Registration(etcd, ttl_seconds)
    registration.set(worker_key(prefix, record.worker_id), encode_record(record))
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(registration.run())
        try:
            yield
        finally:
            keeper.cancel()
