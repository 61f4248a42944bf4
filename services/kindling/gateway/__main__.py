"""Runs the gateway: ``python -m kindling.gateway``, configured by ``KINDLING_GATEWAY_*``."""

import socket

from opentelemetry.exporter.prometheus import PrometheusMetricReader

from kindling.gateway.app import serve
from kindling.gateway.settings import GatewaySettings
from kindling.platform.process import run_service
from kindling.platform.settings import load_settings


def main() -> None:
    """Run until asked to stop."""
    settings = load_settings(GatewaySettings)
    # Gateways have no names of their own; metrics of several must not be taken for one's.
    name = f"{socket.gethostname()}:{settings.http_port}"
    run_service(
        "gateway",
        settings,
        lambda shutdown: serve(settings, shutdown),
        instance_id=name,
        readers=[PrometheusMetricReader()],
    )


if __name__ == "__main__":
    main()
