"""Dashboards and lists speak of metrics that there are."""

import json
import re
from pathlib import Path

import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

from support.metric_instruments import instruments

COMPOSE = Path(__file__).parents[3] / "compose"
DASHBOARDS = sorted((COMPOSE / "grafana" / "dashboards").glob("*.json"))
METRIC = re.compile(r"\b((?:kindling|gen_ai)_\w+)\b(?!\s*[,)]\s*\()")
LABELS = re.compile(r"by \([^)]*\)|\{[^}]*\}")


def prometheus_names() -> set[str]:
    """What Prometheus calls them, by OpenTelemetry's own translation."""
    before = {metric.name for metric in REGISTRY.collect()}
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    for one in instruments():
        if one.kind == "histogram":
            meter.create_histogram(one.name, one.unit).record(1)
        elif one.kind.endswith("gauge"):
            meter.create_gauge(one.name, one.unit).set(1)
        elif "up_down" in one.kind:
            meter.create_up_down_counter(one.name, one.unit).add(1)
        else:
            meter.create_counter(one.name, one.unit).add(1)
    names = {sample.name for metric in REGISTRY.collect() if metric.name not in before for sample in metric.samples}
    provider.shutdown()
    return names


def test_dashboards_show_metrics_that_there_are() -> None:
    panels = [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    shown = {name for expression in expressions for name in METRIC.findall(LABELS.sub("", expression))}
    assert len(shown) > 15
    assert shown <= prometheus_names()


def test_the_list_names_every_metric_and_no_other() -> None:
    listed = re.findall(r"^\| `([\w.]+)`", (COMPOSE / "METRICS.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted({one.name for one in instruments()})


def test_settings_of_the_collector_prometheus_and_grafana_are_whole() -> None:
    collector = yaml.safe_load((COMPOSE / "otel-collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
    scraped = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"]
    assert scraped[0]["targets"] == ["otel-collector:" + collector["exporters"]["prometheus"]["endpoint"].split(":")[1]]
    sources = yaml.safe_load((COMPOSE / "grafana/provisioning/datasources/kindling.yaml").read_text())["datasources"]
    assert {source["uid"] for source in sources} == {"prometheus", "jaeger"}
