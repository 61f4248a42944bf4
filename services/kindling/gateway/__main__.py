"""Runs the gateway: ``python -m kindling.gateway``, configured by ``KINDLING_GATEWAY_*``."""

from opentelemetry.exporter.prometheus import PrometheusMetricReader

from kindling.gateway.app import serve
from kindling.gateway.settings import GatewaySettings
from kindling.platform.process import run_service
from kindling.platform.settings import load_settings


def main() -> None:
    """Run until asked to stop."""
    settings = load_settings(GatewaySettings)
    run_service("gateway", settings, lambda shutdown: serve(settings, shutdown), readers=[PrometheusMetricReader()])


if __name__ == "__main__":
    main()
