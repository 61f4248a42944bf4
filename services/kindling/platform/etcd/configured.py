"""The client of the etcd that a service's settings name."""

from pathlib import Path

from kindling.platform.etcd.client import EtcdClient
from kindling.platform.etcd.config import Credentials, TlsConfig
from kindling.platform.settings import ServiceSettings


def configured_etcd(settings: ServiceSettings) -> EtcdClient:
    """Return a client with the endpoints, the certificates and the password of ``settings``."""
    files = (settings.etcd_tls_ca, settings.etcd_tls_cert, settings.etcd_tls_key)
    tls = TlsConfig(*(Path(file) if file else None for file in files)) if settings.etcd_tls_ca else None
    credentials = Credentials(settings.etcd_user, settings.etcd_password) if settings.etcd_user else None
    return EtcdClient(settings.etcd_endpoint_list, tls=tls, credentials=credentials)
