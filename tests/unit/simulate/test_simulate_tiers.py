"""Virtual time, and tiers."""

from kindling.simulate.events import Events
from kindling.simulate.lru_tier import LruTier


def test_what_is_planned_happens_in_order_and_may_plan_more() -> None:
    events, seen = Events(), list[tuple[str, float]]()
    events.at(2.0, lambda: seen.append(("late", events.now)))
    events.at(1.0, lambda: events.after(0.5, lambda: seen.append(("between", events.now))))
    events.at(1.0, lambda: seen.append(("same moment", events.now)))
    events.run()
    assert seen == [("same moment", 1.0), ("between", 1.5), ("late", 2.0)]


def test_the_least_recently_used_gives_way_but_not_what_is_pinned() -> None:
    tier = LruTier(30)
    for name in "abc":
        tier.put(name, 10)
    tier.pin("a")
    tier.put("b", 10)
    assert tier.put("d", 10) == ["c"]
    assert tier.put("e", 25) == [], "a is pinned: dropping the others would not do"
    assert [name in tier for name in "abcde"] == [True, True, False, True, False]
    tier.unpin("a")
    assert tier.put("e", 25) == ["a", "b", "d"]
    assert tier.used_bytes == 25
