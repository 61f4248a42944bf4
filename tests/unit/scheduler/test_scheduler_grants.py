"""Who counts as in flight, and since when an instance is idle."""

from kindling.scheduler.domain.grants import GrantLedger


def ledger() -> GrantLedger:
    grants = GrantLedger(ttl_seconds=10.0)
    grants.open("i", 0.0)
    return grants


def test_granted_and_reported_generations_count_once() -> None:
    grants = ledger()
    grants.grant("a", "i", 1.0)
    grants.report("i", frozenset({"a", "b"}), 2.0)
    assert grants.in_flight("i") == 2
    assert grants.idle_since("i") is None


def test_a_release_counts_at_once_even_if_the_last_report_is_older() -> None:
    grants = ledger()
    grants.grant("a", "i", 1.0)
    grants.report("i", frozenset({"a"}), 2.0)
    assert grants.release("a", 3.0)
    assert (grants.in_flight("i"), grants.idle_since("i")) == (0, 3.0)
    grants.report("i", frozenset({"a"}), 4.0)
    assert grants.in_flight("i") == 0
    assert not grants.release("a", 5.0)


def test_a_generation_that_is_reported_no_more_has_ended() -> None:
    grants = ledger()
    grants.grant("a", "i", 1.0)
    grants.report("i", frozenset(), 2.0)
    assert grants.in_flight("i") == 1, "the worker may not have seen it yet"
    grants.report("i", frozenset({"a"}), 3.0)
    grants.report("i", frozenset(), 4.0)
    assert (grants.in_flight("i"), grants.idle_since("i")) == (0, 4.0)


def test_only_grants_that_no_worker_saw_expire() -> None:
    grants = ledger()
    grants.grant("seen", "i", 0.0)
    grants.grant("unseen", "i", 1.0)
    grants.report("i", frozenset({"seen"}), 2.0)
    assert grants.next_expiry() == 11.0
    assert grants.expire(10.9) == []
    assert grants.expire(11.0) == ["unseen"]
    assert grants.in_flight("i") == 1
    assert grants.next_expiry() is None


def test_one_that_turns_up_after_its_expiry_counts_again() -> None:
    grants = ledger()
    grants.grant("late", "i", 0.0)
    grants.expire(10.0)
    grants.report("i", frozenset({"late"}), 11.0)
    assert grants.in_flight("i") == 1


def test_granting_twice_is_granting_once() -> None:
    grants = ledger()
    grants.open("j", 0.0)
    grants.grant("a", "i", 1.0)
    grants.grant("a", "j", 2.0)
    assert (grants.in_flight("i"), grants.in_flight("j"), grants.instance_of("a")) == (1, 0, "i")


def test_closing_forgets_every_grant() -> None:
    grants = ledger()
    grants.grant("a", "i", 1.0)
    grants.close("i")
    assert grants.instance_of("a") is None
    assert not grants.release("a", 2.0)
    assert grants.next_expiry() is None


def moving() -> GrantLedger:
    grants = ledger()
    grants.open("j", 0.0)
    return grants


def test_a_generation_that_moves_takes_room_where_it_goes_and_none_where_it_was() -> None:
    grants = moving()
    grants.grant("a", "i", 1.0)
    grants.report("i", frozenset({"a"}), 2.0)
    grants.move("a", "i", "j", 3.0)
    assert (grants.in_flight("i"), grants.in_flight("j"), grants.instance_of("a")) == (0, 1, "j")
    assert (grants.idle_since("i"), grants.idle_since("j")) == (3.0, None)
    grants.report("i", frozenset({"a"}), 4.0)  # older than the move
    grants.report("j", frozenset(), 4.0)  # this one too
    assert (grants.in_flight("i"), grants.in_flight("j")) == (0, 1)
    grants.report("j", frozenset({"a"}), 5.0)
    grants.report("j", frozenset(), 6.0)
    assert grants.in_flight("j") == 0


def test_one_that_only_its_worker_told_of_moves_too() -> None:
    grants = moving()
    grants.report("i", frozenset({"a"}), 1.0)
    grants.move("a", "i", "j", 2.0)
    assert (grants.in_flight("i"), grants.in_flight("j"), grants.instance_of("a")) == (0, 1, "j")


def test_one_that_its_new_worker_has_told_of_already_counts_once_and_ends_with_its_report() -> None:
    grants = moving()
    grants.grant("a", "i", 1.0)
    grants.report("j", frozenset({"a"}), 2.0)
    grants.move("a", "i", "j", 3.0)
    assert grants.in_flight("j") == 1
    grants.report("j", frozenset(), 4.0)
    assert grants.in_flight("j") == 0


def test_one_that_has_ended_or_went_a_third_way_does_not_move() -> None:
    grants = moving()
    grants.open("k", 0.0)
    grants.grant("ended", "i", 1.0)
    grants.release("ended", 2.0)
    grants.grant("elsewhere", "k", 1.0)
    grants.move("ended", "i", "j", 3.0)
    grants.move("elsewhere", "i", "j", 3.0)
    assert [grants.in_flight(name) for name in "ijk"] == [0, 0, 1]


def test_there_and_back_again() -> None:
    grants = moving()
    grants.grant("a", "i", 1.0)
    grants.report("i", frozenset({"a"}), 2.0)
    for number in range(20):
        source, target = ("i", "j") if number % 2 == 0 else ("j", "i")
        grants.move("a", source, target, 3.0 + number)
        assert (grants.in_flight(source), grants.in_flight(target)) == (0, 1)
    assert grants.release("a", 30.0)
    assert (grants.in_flight("i"), grants.in_flight("j")) == (0, 0)


def test_arrived_is_what_a_worker_told_of_and_is_not_over() -> None:
    grants = ledger()
    grants.grant("a", "i", 1.0)
    assert not grants.has_arrived("i")
    grants.report("i", frozenset({"a"}), 2.0)
    assert grants.has_arrived("i")
    grants.release("a", 3.0)
    assert not grants.has_arrived("i")


# What an earlier leader granted


def test_a_generation_that_nobody_here_granted_is_its_tenants_until_it_ends() -> None:
    grants = ledger()
    grants.report("i", frozenset({"a", "b"}), 1.0, {"a": "acme"})
    assert (grants.in_flight_of("acme"), grants.in_flight_of("")) == (1, 1)
    assert grants.instance_of("a") == "i"
    assert grants.began("i") is None, "nobody knows since when"
    assert grants.release("a", 2.0)
    grants.report("i", frozenset({"a", "b"}), 3.0, {"a": "acme"})  # older than the release
    assert grants.in_flight_of("acme") == 0
    grants.report("i", frozenset(), 4.0)
    assert (grants.in_flight_of(""), grants.in_flight("i")) == (0, 0)


def test_how_long_it_took_is_told_only_of_what_was_seen_to_begin() -> None:
    told: list[float] = []
    grants = GrantLedger(10.0, ended=lambda _name, seconds: told.append(seconds))
    grants.open("i", 0.0)
    grants.report("i", frozenset({"a", "b"}), 1.0)
    grants.grant("c", "i", 2.0)
    grants.release("a", 3.0)
    grants.release("c", 5.0)
    grants.report("i", frozenset(), 6.0)
    assert told == [3.0]


def test_one_that_two_workers_tell_of_counts_once_for_its_tenant() -> None:
    grants = moving()
    grants.report("i", frozenset({"a"}), 1.0, {"a": "acme"})
    grants.report("j", frozenset({"a"}), 2.0, {"a": "acme"})
    assert grants.in_flight_of("acme") == 1
    grants.report("i", frozenset(), 3.0)
    grants.report("j", frozenset({"a"}), 4.0, {"a": "acme"})
    assert (grants.in_flight_of("acme"), grants.instance_of("a")) == (1, "j")


def test_one_that_both_workers_tell_of_before_its_move_is_heard_of_takes_room_once() -> None:
    grants = moving()
    grants.report("j", frozenset({"a"}), 1.0, {"a": "acme"})
    grants.report("i", frozenset({"a"}), 1.0, {"a": "acme"})
    grants.move("a", "i", "j", 2.0)
    assert (grants.in_flight("i"), grants.in_flight("j"), grants.in_flight_of("acme")) == (0, 1, 1)


def test_one_that_left_its_worker_before_its_move_was_heard_of_stays_its_tenants() -> None:
    grants = moving()
    grants.grant("a", "i", 1.0, "acme")
    grants.report("i", frozenset({"a"}), 2.0, {"a": "acme"})
    grants.report("i", frozenset(), 3.0)
    grants.move("a", "i", "j", 4.0)
    grants.report("j", frozenset({"a"}), 5.0, {"a": "acme"})
    assert (grants.in_flight_of("acme"), grants.in_flight_of("")) == (1, 0)


def test_one_that_looks_for_another_place_is_nobodys_where_it_still_runs() -> None:
    grants = moving()
    grants.grant("a", "i", 1.0, "acme")
    grants.report("i", frozenset({"a"}), 2.0, {"a": "acme"})
    grants.leave("a", 3.0)
    grants.report("i", frozenset({"a"}), 4.0, {"a": "acme"})
    assert (grants.in_flight_of("acme"), grants.in_flight("i"), grants.instance_of("a")) == (0, 1, None)
    grants.grant("a", "j", 5.0, "acme")
    grants.report("i", frozenset({"a"}), 6.0, {"a": "acme"})
    assert (grants.in_flight_of("acme"), grants.instance_of("a")) == (1, "j")
