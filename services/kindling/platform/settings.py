"""Settings that every service shares. Built once in ``__main__``; a bad value is a start-up error."""

import sys
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from kindling.platform.telemetry import bad_variables

EXIT_BAD_CONFIGURATION = 78  # EX_CONFIG of sysexits.h

S = TypeVar("S", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """Where a service listens, where etcd is, how it logs. Each service adds its own and sets ``env_prefix``."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    listen_address: str = Field(
        default="127.0.0.1:0", description="host:port to serve gRPC on; port 0 takes a free one"
    )
    advertise_host: str = Field(default="", description="host that others dial; by default that of listen_address")
    etcd_endpoints: str = Field(default="127.0.0.1:2379", description="comma-separated host:port of etcd's members")
    etcd_wait_seconds: float = Field(default=60.0, gt=0.0, description="how long etcd may stay away after the start")
    etcd_prefix: str = Field(default="/kindling/v1/", description="keys of this cluster begin with this")
    etcd_user: str = ""
    etcd_password: str = ""
    etcd_tls_ca: str = Field(default="", description="file with the authority that signed etcd's certificate")
    etcd_tls_cert: str = Field(default="", description="file with our own certificate")
    etcd_tls_key: str = Field(default="", description="file with our own key")
    lease_ttl_seconds: float = Field(default=5.0, ge=1.0, description="how soon the cluster notices that we are gone")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    grace_seconds: float = Field(default=5.0, ge=0.0, description="how long running calls may take at shutdown")

    @property
    def etcd_endpoint_list(self) -> list[str]:
        """The endpoints, one by one."""
        return [endpoint.strip() for endpoint in self.etcd_endpoints.split(",") if endpoint.strip()]


def load_settings(cls: type[S]) -> S:
    """Read ``cls`` from the environment; print what is wrong and exit with 78 if a value is bad, telemetry's too."""
    settings, problems = _read(cls)
    problems += bad_variables()
    if settings is not None and not problems:
        return settings
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    sys.exit(EXIT_BAD_CONFIGURATION)


def _read(cls: type[S]) -> tuple[S | None, list[str]]:
    try:
        return cls(), []
    except ValidationError as error:
        prefix = cls.model_config.get("env_prefix", "")
        return None, [
            f"{prefix}{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']} (got {problem['input']!r})"
            for problem in error.errors()
        ]
