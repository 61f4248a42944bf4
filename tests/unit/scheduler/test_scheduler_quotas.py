"""What tenants may have at once: generations, waiting requests, devices."""

from dataclasses import replace

import pytest

from kindling.platform.errors import InvalidArgumentError, ResourceExhaustedError
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Plan
from kindling.scheduler.domain.quotas import Quota, Quotas, TenantQuota, check_tenant, check_weight
from kindling.scheduler.domain.values import Request
from support import scheduler_views as views


def planner_with(slots: int = 1, *models: str, **settings: float) -> Planner:
    planner = views.planner()
    views.add_node(planner.view, views.node("n"), workers=slots)
    for name in models or ("m",):
        planner.view.models[name] = views.model(name, **settings)
    planner.plan(0.0)
    return planner


def bound(planner: Planner, tenant: str, **quota: int) -> None:
    planner.view.quotas.put(TenantQuota(tenant, Quota(**quota)))


def of(name: str, model: str = "m", now: float = 0.0) -> Request:
    """A request of the tenant whose name, and a number, is the generation's."""
    return replace(views.request(name, model, now), tenant=name[:-1])


def ask(planner: Planner, *names: str, model: str = "m", now: float = 0.0) -> list[str]:
    """Have generations come; returns those granted at once, the others wait."""
    granted = []
    for name in names:
        request = of(name, model, now)
        if planner.try_grant(request, now) is not None:
            granted.append(name)
        else:
            planner.hold(request, now)
    return granted


def plan(planner: Planner, now: float) -> Plan:
    """Plan, and have what starts be ready and what stops be gone at once."""
    planned = planner.plan(now)
    for start in planned.starts:
        views.loaded(planner, start.instance.instance_id, now)
    for stop in planned.stops:
        leave(planner, stop.instance.instance_id)
    planner.view.check_integrity()
    return planned


def leave(planner: Planner, instance_id: str) -> None:
    gone = planner.view.remove_instance(instance_id)
    assert gone is not None
    views.report(planner.view, gone.worker_id)


def granted(planner: Planner, now: float) -> list[str]:
    """Plan until nothing new comes of it; returns who is granted a place."""
    names = []
    while (planned := plan(planner, now)).grants or planned.starts or planned.stops:
        names += [grant.request.generation_id for grant in planned.grants]
    return names


def running(planner: Planner) -> list[str]:
    return sorted(one.model for one in planner.view.instances.values())


# Which quota holds


def test_a_tenant_has_its_own_quota_or_everybodys_or_none() -> None:
    quotas = Quotas()
    assert quotas.of("acme") == Quota()
    quotas.put(TenantQuota("*", Quota(generations=1)))
    quotas.put(TenantQuota("acme", Quota(waiting=5)))
    assert (quotas.of("acme"), quotas.of("other"), quotas.of("")) == (Quota(waiting=5), Quota(1), Quota(1))
    quotas.remove("acme")
    assert quotas.of("acme") == Quota(generations=1)
    assert (quotas.own("acme"), quotas.named()) == (None, ["*"])


@pytest.mark.parametrize("name", ["a b", "-", "**", "x" * 65, "é"])
def test_a_quota_for_nobody_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no tenant's name"):
        check_tenant(name)


@pytest.mark.parametrize("weight", [0, 1001])
def test_a_weight_has_bounds(weight: int) -> None:
    with pytest.raises(InvalidArgumentError, match="from 1 to 1000"):
        check_weight(weight)


# Waiting


def test_who_may_not_wait_is_told_which_quota_it_was_and_what_to_do() -> None:
    planner = planner_with()
    bound(planner, "acme", waiting=2)
    ask(planner, "acme1", "acme2")
    with pytest.raises(ResourceExhaustedError) as refused:
        ask(planner, "acme3")
    assert refused.value.reason == "TENANT_QUOTA_EXCEEDED"
    assert refused.value.metadata == {"tenant": "acme", "quota": "waiting", "limit": "2"}
    assert refused.value.retry_after_seconds
    for said in ("acme", "2 requests waiting", "`waiting`", "kindling tenant set"):
        assert said in refused.value.message
    assert ask(planner, "other1") == []


def test_waiting_counts_over_all_models_and_until_one_is_served_or_leaves() -> None:
    planner = planner_with(2, "m", "o")
    bound(planner, "acme", waiting=2)
    ask(planner, "acme1")
    ask(planner, "acme2", model="o")
    with pytest.raises(ResourceExhaustedError):
        ask(planner, "acme3", model="o")
    assert sorted(granted(planner, 1.0)) == ["acme1", "acme2"]
    assert ask(planner, "acme4") == ["acme4"]
    assert planner.lines.waiting_of("acme") == 0


def test_who_asks_again_for_the_same_or_had_a_place_before_is_let_in() -> None:
    planner = planner_with()
    bound(planner, "acme", waiting=1)
    ask(planner, "acme1")
    ask(planner, "acme1")
    assert planner.hold(replace(of("acme2"), avoid=frozenset({"gone"})), 0.0) == 1
    assert planner.lines.waiting_of("acme") == 2


# Generations


def test_who_has_as_many_generations_as_it_may_waits_and_holds_nobody_up() -> None:
    planner = planner_with(concurrency_target=8, max_instances=1)
    bound(planner, "acme", generations=2)
    ask(planner, "acme1", "acme2", "acme3", "acme4")
    assert granted(planner, 1.0) == ["acme1", "acme2"]
    assert ask(planner, "other1", now=2.0) == ["other1"], "not even for one plan"
    assert granted(planner, 2.0) == []
    planner.release("acme1", 3.0)
    assert granted(planner, 3.0) == ["acme3"]
    assert planner.lines.waiting_of("acme") == 1


def test_generations_count_over_all_models() -> None:
    planner = planner_with(2, "m", "o")
    bound(planner, "*", generations=1)
    ask(planner, "acme1")
    assert granted(planner, 1.0) == ["acme1"]
    assert ask(planner, "acme2", model="o") == []
    assert ask(planner, "other1", model="o") == []
    assert granted(planner, 2.0) == ["other1"]


def test_nothing_is_started_for_those_who_may_not_run() -> None:
    planner = planner_with(4, concurrency_target=1)
    bound(planner, "acme", generations=2)
    ask(planner, *(f"acme{number}" for number in range(6)))
    assert len(granted(planner, 1.0)) == 2
    assert len(planner.view.instances) == 2


def test_one_generation_starts_one_model_at_a_time() -> None:
    planner = planner_with(4, "m", "o", "p")
    bound(planner, "acme", generations=1)
    for number, model in enumerate(("m", "o", "p")):
        ask(planner, f"acme{number}", model=model)
    assert len(planner.plan(1.0).starts) == 1
    assert planner.plan(1.0).starts == []


def test_a_new_leader_counts_before_it_grants() -> None:
    planner = views.planner()
    views.add_node(planner.view, views.node("n"), workers=1)
    views.put(planner.view, "m-1", views.model(), "n/w0")
    bound(planner, "acme", generations=1)
    assert ask(planner, "other1") == ["other1"]
    assert ask(planner, "acme1") == [], "not every worker has told yet whose generations it runs"
    assert granted(planner, 0.0) == ["acme1"]


def test_who_is_moved_on_keeps_the_place_that_it_has() -> None:
    """A generation broke off, and its tenant has others waiting that may not run: none of them goes first."""
    planner = planner_with(2, "m", concurrency_target=4, min_instances=2)
    for name in list(planner.view.instances):
        views.loaded(planner, name, 0.0)
    bound(planner, "acme", generations=1)
    assert ask(planner, "acme1", "acme2", now=1.0) == ["acme1"]
    broken = planner.view.grants.instance_of("acme1")
    assert broken is not None
    moved = planner.try_grant(replace(of("acme1", now=2.0), avoid=frozenset({broken})), 2.0)
    assert moved is not None
    assert moved.instance.instance_id != broken
    assert planner.view.grants.in_flight_of("acme") == 1


@pytest.mark.parametrize("quota", ["generations", "devices"])
def test_who_waits_in_vain_is_told_which_quota_it_was(quota: str) -> None:
    planner = planner_with(2, "m", "o", max_queue_wait_seconds=30.0)
    bound(planner, "acme", **{quota: 1})
    ask(planner, "acme1")
    granted(planner, 1.0)
    (instance,) = planner.view.instances.values()
    views.report(planner.view, instance.worker_id, "acme1")
    ask(planner, "acme2", model="o", now=2.0)
    (refusal,) = planner.plan(32.0).refusals
    assert (refusal.error.reason, refusal.error.metadata["quota"]) == ("QUEUE_TIMEOUT", quota)
    assert f"it has 1 {quota}, as many as its quota lets it" in refusal.error.message


def test_weights_share_places_out() -> None:
    planner = planner_with(concurrency_target=6, max_instances=1)
    bound(planner, "big", weight=2)
    ask(planner, *(f"{tenant}{number}" for tenant in ("small", "big") for number in range(8)))
    served = [name[:-1] for name in granted(planner, 1.0)]
    assert (served.count("big"), served.count("small")) == (4, 2)


def test_a_turn_of_weight_two_is_two_places() -> None:
    planner = planner_with(concurrency_target=1, max_instances=1)
    bound(planner, "big", weight=2)
    ask(planner, *(f"{tenant}{number}" for tenant in ("small", "big") for number in range(6)))
    served = granted(planner, 1.0)
    for now in range(2, 7):
        planner.release(served[-1], float(now))
        served += granted(planner, float(now))
    assert [name[:-1] for name in served] == ["small", "big", "big", "small", "big", "big"]


# Devices


def test_who_has_as_many_devices_as_it_may_waits_and_others_start() -> None:
    planner = planner_with(3, "m", "o", "p", concurrency_target=1)
    bound(planner, "acme", devices=1)
    ask(planner, "acme1")
    assert granted(planner, 1.0) == ["acme1"]
    ask(planner, "acme2", model="o", now=2.0)
    ask(planner, "other1", model="p", now=3.0)
    assert granted(planner, 3.0) == ["other1"]
    assert running(planner) == ["m", "p"]


def test_its_own_idle_device_goes_for_another_model() -> None:
    planner = planner_with(3, "m", "o")
    bound(planner, "acme", devices=1)
    ask(planner, "acme1")
    granted(planner, 1.0)
    ask(planner, "acme2", model="o", now=2.0)
    assert granted(planner, 2.0) == []
    planner.release("acme1", 3.0)
    assert [stop.instance.model for stop in planner.plan(3.0).stops] == ["m"]
    assert planner.plan(3.0).starts == [], "it is not gone yet"
    (leaving,) = planner.view.instances
    leave(planner, leaving)
    assert granted(planner, 4.0) == ["acme2"]
    assert running(planner) == ["o"]


def test_one_idle_device_goes_for_one_model_only() -> None:
    planner = planner_with(4, "m", "o", "p", "q")
    bound(planner, "acme", devices=2)
    ask(planner, "acme1")
    ask(planner, "acme2", model="o")
    granted(planner, 1.0)
    planner.release("acme1", 2.0)
    planner.release("acme2", 3.0)
    ask(planner, "acme3", model="p", now=4.0)
    first = planner.plan(4.0)
    assert [stop.instance.model for stop in first.stops] == ["m"], "the longest idle"
    again = planner.plan(4.0)
    assert (again.stops, again.starts) == ([], [])


def test_it_is_served_by_what_others_have_started() -> None:
    planner = planner_with(2, "m", "o")
    bound(planner, "acme", devices=1)
    ask(planner, "acme1")
    ask(planner, "other1", model="o")
    granted(planner, 1.0)
    assert ask(planner, "acme2", model="o", now=2.0) == ["acme2"]
    assert planner.view.devices.count("acme") == 1


def test_many_requests_of_one_model_start_no_more_devices_than_may_be() -> None:
    planner = planner_with(4, concurrency_target=1)
    bound(planner, "acme", devices=2)
    ask(planner, *(f"acme{number}" for number in range(5)))
    assert len(granted(planner, 1.0)) == 2
    ask(planner, "other1", now=2.0)
    assert granted(planner, 2.0) == ["other1"]
    assert (planner.view.devices.count("acme"), planner.view.devices.count("other")) == (2, 1)


def test_room_is_not_made_for_more_models_than_may_start() -> None:
    planner = planner_with(2, "m", "o", "p", "q")
    ask(planner, "other1")
    ask(planner, "other2", model="o")
    granted(planner, 1.0)
    planner.release("other1", 2.0)
    planner.release("other2", 2.0)
    bound(planner, "acme", devices=1)
    ask(planner, "acme1", model="p", now=100.0)
    ask(planner, "acme2", model="q", now=100.0)
    assert len(planner.plan(100.0).stops) == 1


def test_an_instance_kept_for_its_minimum_is_nobodys() -> None:
    planner = planner_with(1, "m", min_instances=1)
    plan(planner, 0.0)
    assert [one.tenant for one in planner.view.instances.values()] == [None]
    assert not list(planner.view.devices.tenants())


def test_what_moves_stays_its_tenants_device() -> None:
    planner = planner_with(2)
    ask(planner, "acme1")
    granted(planner, 1.0)
    (source,) = planner.view.instances.values()
    free = next(one for one in planner.view.workers.values() if one.worker_id != source.worker_id)
    (move,) = planner.relocation.to_worker(planner.view.models["m"], free, [source], 2.0)
    assert move.start is not None
    assert move.start.instance.tenant == "acme"
