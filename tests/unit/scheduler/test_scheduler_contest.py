"""Which model gets a device when several want one: its tenant's turn decides, then the longest wait."""

from dataclasses import replace
from itertools import count

from kindling.scheduler.domain.devices import START_SECONDS, Devices
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.quotas import Quota, Quotas, TenantQuota
from kindling.scheduler.domain.values import Instance, InstanceState
from support import scheduler_views as views

numbers = count()


def device(name: str, tenant: str | None) -> Instance:
    return Instance(name, "m", "d", "n/w", InstanceState.READY, tenant=tenant)


def quotas(**weights: int) -> Quotas:
    return Quotas(TenantQuota(tenant, Quota(weight=weight)) for tenant, weight in weights.items())


def planner_with(slots: int, **weights: int) -> Planner:
    planner = views.planner()
    views.add_node(planner.view, views.node("n"), workers=slots)
    for tenant, weight in weights.items():
        planner.view.quotas.put(TenantQuota(tenant, Quota(weight=weight)))
    return planner


def want(planner: Planner, tenant: str, now: float) -> None:
    """Have a tenant ask for a model that nobody else does."""
    name = f"{tenant}-{next(numbers)}"
    planner.view.models[name] = views.model(name, max_queue_wait_seconds=1e6)
    planner.hold(replace(views.request(name, name, now), tenant=tenant), now)


def started(planner: Planner, now: float) -> list[str | None]:
    """The tenants for which a plan starts something, which is ready at once."""
    starts = planner.plan(now).starts
    for start in starts:
        views.loaded(planner, start.instance.instance_id, now)
    planner.view.check_integrity()
    return [start.instance.tenant for start in starts]


def end(planner: Planner, tenant: str, now: float) -> None:
    """Have the oldest of a tenant's devices go."""
    oldest = min(planner.view.devices.of(tenant), key=planner.view.entered.__getitem__)
    planner.view.devices.pass_time(now)
    gone = planner.view.remove_instance(oldest)
    assert gone is not None
    views.report(planner.view, gone.worker_id, now=now)


def test_a_device_costs_a_start_and_the_seconds_that_it_is_held() -> None:
    devices = Devices(quotas(b=2))
    devices.enter(device("1", "a"), 0.0)
    devices.enter(device("1", "a"), 5.0)
    devices.enter(device("2", "b"), 0.0)
    devices.enter(device("3", None), 0.0)
    devices.pass_time(20.0)
    assert (devices.tag("a"), devices.tag("b")) == (START_SECONDS + 20, (START_SECONDS + 20) / 2)
    assert devices.tag("b", more=1) == START_SECONDS + 10
    devices.leave(device("1", "a"))
    devices.leave(device("1", "a"))
    devices.leave(device("3", None))
    devices.pass_time(50.0)
    assert devices.tag("a") == START_SECONDS + 20
    devices.check_integrity([device("2", "b")])


def test_who_asks_again_after_a_while_has_saved_nothing_up() -> None:
    devices = Devices(quotas())
    devices.enter(device("1", "busy"), 0.0)
    devices.pass_time(100.0)
    devices.wake("late", [])
    assert devices.tag("late") == devices.tag("busy") == START_SECONDS + 100
    devices.wake("third", ["late"])
    assert devices.tag("third") == START_SECONDS + 100


def test_who_is_ahead_stays_so_until_the_others_have_caught_up() -> None:
    devices = Devices(quotas())
    devices.enter(device("1", "a"), 0.0)
    devices.enter(device("2", "b"), 0.0)
    devices.pass_time(100.0)
    devices.leave(device("1", "a"))
    devices.enter(device("3", "c"), 100.0)
    devices.wake("a", [])
    assert devices.tag("a") == START_SECONDS + 100 > devices.tag("c")
    for name, tenant in (("2", "b"), ("3", "c")):
        devices.leave(device(name, tenant))
    devices.wake("d", [])
    assert (devices.tag("a"), devices.tag("d")) == (0.0, 0.0), "with nobody there all begin anew"


def test_a_flood_of_models_leaves_every_other_slot_to_another_tenant() -> None:
    planner = planner_with(4)
    for _ in range(6):
        want(planner, "flood", 0.0)
    for _ in range(2):
        want(planner, "quiet", 1.0)
    assert started(planner, 1.0) == ["flood", "quiet", "flood", "quiet"]


def test_the_next_slot_is_his_who_has_had_the_least_not_his_who_waits_longest() -> None:
    planner = planner_with(2)
    want(planner, "flood", 0.0)
    want(planner, "flood", 0.0)
    assert started(planner, 0.0) == ["flood", "flood"]
    for _ in range(3):
        want(planner, "flood", 1.0)
    want(planner, "quiet", 50.0)
    assert started(planner, 50.0) == []
    end(planner, "flood", 60.0)
    assert started(planner, 60.0) == ["quiet"]
    end(planner, "flood", 61.0)
    assert started(planner, 61.0) == ["flood"], "nobody else waits"


def test_of_one_tenants_models_the_longest_wait_comes_first() -> None:
    planner = planner_with(2)
    for now in (3.0, 1.0, 2.0):
        want(planner, "acme", now)
    starts = planner.plan(4.0).starts
    assert [start.request.arrived_at for start in starts if start.request] == [1.0, 2.0]


def test_a_tenant_of_weight_three_gets_three_slots_of_four() -> None:
    planner = planner_with(8, big=3)
    for _ in range(10):
        want(planner, "small", 0.0)
        want(planner, "big", 1.0)
    tenants = started(planner, 1.0)
    assert (tenants.count("big"), tenants.count("small")) == (6, 2)


def test_device_time_is_shared_by_weight_however_long_each_is_held() -> None:
    """One slot; the big tenant's models hold it for 100 s each, the small one's for 10 s."""
    planner, now = planner_with(1, big=2), 0.0
    held = {"big": 0.0, "small": 0.0}
    for _ in range(20):
        want(planner, "big", 0.0)
    for _ in range(200):
        want(planner, "small", 0.0)
    while now < 2000:
        (tenant,) = started(planner, now)
        assert tenant is not None
        seconds = 100.0 if tenant == "big" else 10.0
        held[tenant] += seconds + START_SECONDS
        now += seconds
        end(planner, tenant, now)
    assert abs(held["big"] / 2 - held["small"]) <= 110


def test_models_that_two_tenants_want_count_for_whom_they_are_started() -> None:
    planner = planner_with(1)
    planner.view.models["m"] = views.model("m")
    for tenant in ("first", "second"):
        planner.hold(replace(views.request(tenant, "m", 0.0), tenant=tenant), 0.0)
    assert started(planner, 0.0) == ["first"]
    assert [grant.request.tenant for grant in planner.plan(0.0).grants] == ["first", "second"]
    assert planner.view.devices.count("second") == 0
