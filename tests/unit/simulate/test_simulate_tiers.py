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
    tier.put("d", 10)
    assert tier.changed == {"a", "b", "c", "d"}
    assert "c" not in tier
    tier.put("e", 25)
    assert [name in tier for name in "abcde"] == [True, True, False, True, False], "dropping others would not do"
    tier.unpin("a")
    tier.put("e", 25)
    assert tier.digests() == {"e"}
    assert tier.used_bytes == 25


def test_chunks_give_way_from_the_tails_first_and_heads_last() -> None:
    tier = LruTier(30, chunk_bytes=2)
    for name in "abc":
        tier.put(name, 10)
    tier.put("d", 9)
    # A quarter of ten bytes is two chunks: "a" keeps these four, and "b" gives the other three, in chunks.
    assert [tier.held_bytes(name) for name in "abcd"] == [4, 6, 10, 9]
    tier.put("e", 10)
    assert [tier.held_bytes(name) for name in "abcde"] == [4, 4, 4, 8, 10]
    assert tier.used_bytes == 30
    for name in "bcde":
        tier.pin(name)
    tier.put("f", 10)
    assert [tier.held_bytes(name) for name in "af"] == [0, 4], "as much of its head as fits"
    tier.drop("f")
    assert tier.used_bytes == 26
