"""How quotas are shown."""

import io

from rich.console import Console

from kindling.cli.tenant import describe, render
from kindling.v1 import tenant_pb2


def printed(*tenants: tenant_pb2.TenantStatus) -> list[list[str]]:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render(tenants))
    return [line.split("  ") for line in console.export_text().splitlines()]


def test_a_sentence_says_what_a_tenant_may_have() -> None:
    quota = tenant_pb2.TenantQuota(generations=3, devices=1, weight=2)
    assert describe(quota) == (
        "at most 3 generations run, any number of requests wait, at most 1 devices are its own; weight 2"
    )


def test_the_table_has_what_each_has_and_may_have() -> None:
    quota = tenant_pb2.TenantQuota(generations=3, weight=2)
    acme = tenant_pb2.TenantStatus(tenant="acme", quota=quota, has_own_quota=True, generations=2, waiting=5, devices=1)
    others = tenant_pb2.TenantStatus(tenant="*", quota=quota, has_own_quota=True)
    nameless = tenant_pb2.TenantStatus(quota=quota, generations=1)
    rows = [[cell.strip() for cell in row if cell.strip()] for row in printed(nameless, others, acme)]
    assert rows[0] == ["tenant", "generations", "of", "waiting", "of", "devices", "of", "weight", "quotas"]
    assert rows[1] == ["-", "1", "3", "0", "unbounded", "0", "unbounded", "2", "of everybody else"]
    assert rows[2] == ["*", "–", "3", "–", "unbounded", "–", "unbounded", "2", "of everybody else"]
    assert rows[3] == ["acme", "2", "3", "5", "unbounded", "1", "unbounded", "2", "its own"]


def test_without_tenants_it_says_so() -> None:
    assert "no tenant has quotas" in printed()[0][0]
