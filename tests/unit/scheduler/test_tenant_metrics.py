"""What tenants have, as metrics: by name for those with quotas, all others together."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from kindling.scheduler.domain.quotas import Quota, Quotas, TenantQuota
from kindling.scheduler.tenant_metrics import watch_tenants


def term_with(quotas: Quotas, running: Counter[str]) -> Any:
    """A term of which only what metrics look at is there."""
    grants = SimpleNamespace(tenants=lambda: running)
    devices = SimpleNamespace(tenants=lambda: {"acme": 1}, count=lambda _: 2)
    view = SimpleNamespace(quotas=quotas, grants=grants, devices=devices)
    lines = SimpleNamespace(tenants=lambda: Counter({"acme": 7}))
    return SimpleNamespace(view=view, planner=SimpleNamespace(lines=lines))


def read(reader: InMemoryMetricReader) -> dict[tuple[str, str], float]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            tenant = str((point.attributes or {})["kindling.tenant"])
            found[metric.name.removeprefix("kindling.tenant."), tenant] = point.value  # type: ignore[union-attr]
    return found


def test_those_with_quotas_are_named_and_the_others_are_counted_together() -> None:
    reader, terms = InMemoryMetricReader(), []
    provider = MeterProvider([reader], shutdown_on_exit=False)
    watch_tenants(lambda: terms[-1] if terms else None, provider.get_meter("test"))
    assert read(reader) == {}, "a standby has nothing to tell"
    quotas = Quotas([TenantQuota(name, Quota(1)) for name in ("", "*", "acme")])
    terms.append(term_with(quotas, Counter({"acme": 3, "": 1, "x": 4, "y": 5})))
    assert read(reader) == {
        ("generations", "-"): 1,
        ("generations", "acme"): 3,
        ("generations", "*"): 9,
        ("waiting", "-"): 0,
        ("waiting", "acme"): 7,
        ("waiting", "*"): 0,
        ("devices", "-"): 0,
        ("devices", "acme"): 2,
        ("devices", "*"): 0,
    }
    provider.shutdown()


def test_however_many_tenants_there_are_the_labels_are_bounded() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    quotas = Quotas([TenantQuota(f"t{number}", Quota(1)) for number in range(300)])
    running = Counter({f"t{number}": 1 for number in range(1000)})
    term = term_with(quotas, running)
    watch_tenants(lambda: term, provider.get_meter("test"))
    seen = {tenant: value for (name, tenant), value in read(reader).items() if name == "generations"}
    assert (len(seen), seen["*"]) == (101, 900)
    provider.shutdown()
