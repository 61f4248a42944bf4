"""Dashboards and lists speak of metrics that there are."""

import json
import re
from pathlib import Path

import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

from support.metric_instruments import instruments
from support.metric_list import listed_metrics

COMPOSE = Path(__file__).parents[3] / "compose"
DASHBOARDS = sorted((COMPOSE / "grafana" / "dashboards").glob("*.json"))
METRIC = re.compile(r"\b((?:kindling|gen_ai)_\w+)\b(?!\s*[,)]\s*\()")
GROUPS = re.compile(r"by \(([^)]*)\)")
# Of a histogram's buckets, and what the collector adds of the resource.
OF_ALL = {"le", "service_instance_id"}
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
    shown = {name for expression, _ in _queries() for name in METRIC.findall(LABELS.sub("", expression))}
    assert len(shown) > 15
    assert shown <= prometheus_names()


def test_dashboards_group_by_labels_that_there_are() -> None:
    """Labels of METRICS.md, that is, which another test holds to what a cluster sends."""
    labels = {
        exported: {attribute.replace(".", "_") for attribute in attributes}
        for name, attributes in listed_metrics().items()
        for exported in prometheus_names()
        if exported.startswith(name.replace(".", "_"))
    }
    for expression, legend in _queries():
        shown = METRIC.findall(LABELS.sub("", expression))
        known = set.intersection(*(labels[name] | OF_ALL for name in shown))
        grouped = {label.strip() for group in GROUPS.findall(expression) for label in group.split(",")}
        assert grouped <= known, expression
        assert set(re.findall(r"{{(\w+)}}", legend)) <= (grouped or known), expression


def _queries() -> list[tuple[str, str]]:
    panels = [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
    return [(target["expr"], target["legendFormat"]) for panel in panels for target in panel.get("targets", ())]


def test_histograms_tell_small_numbers_apart() -> None:
    """OpenTelemetry's default bounds are for milliseconds: a median of seconds would be 2.5 whatever there is."""
    assert [one.name for one in instruments() if one.kind == "histogram" and not one.has_bounds] == []


def test_the_list_names_every_metric_and_no_other() -> None:
    assert sorted(listed_metrics()) == sorted({one.name for one in instruments()})


def test_settings_of_the_collector_prometheus_and_grafana_are_whole() -> None:
    collector = yaml.safe_load((COMPOSE / "otel-collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
    scraped = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"]
    assert scraped[0]["targets"] == ["otel-collector:" + collector["exporters"]["prometheus"]["endpoint"].split(":")[1]]
    sources = yaml.safe_load((COMPOSE / "grafana/provisioning/datasources/kindling.yaml").read_text())["datasources"]
    seconds = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    assert sources[0]["jsonData"]["timeInterval"] == seconds
    exported = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["x-telemetry"]["OTEL_METRIC_EXPORT_INTERVAL"]
    assert int(exported) == int(seconds.removesuffix("s")) * 1000
    assert {source["uid"] for source in sources} == {"prometheus", "jaeger"}
