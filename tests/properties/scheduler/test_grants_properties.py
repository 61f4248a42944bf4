"""What holds for the count of generations, however reports, moves and ends overtake each other."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kindling.scheduler.domain.grants import GrantLedger

INSTANCES = ("a", "b", "c")
TENANTS = ("", "acme")
places = st.sampled_from(INSTANCES)


class Counting(RuleBasedStateMachine):
    """Three instances; the truth about what their workers run is kept apart from the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.grants = GrantLedger(ttl_seconds=1e9)
        self.running: dict[str, set[str]] = {name: set() for name in INSTANCES}
        self.known: list[str] = []
        self.arrived: set[str] = set()
        self.released: set[tuple[str, str]] = set()  # generations, and where: a silent worker may run one besides
        for name in INSTANCES:
            self.grants.open(name, 0.0)

    @rule(place=places, arrives=st.booleans())
    def grant(self, place: str, arrives: bool) -> None:
        generation_id = f"g{len(self.known)}"
        self.known.append(generation_id)
        self.grants.grant(generation_id, place, self._tick(), _tenant(generation_id))
        if arrives:
            self._arrive(generation_id)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        self._arrive(data.draw(st.sampled_from(self.known)))

    @rule(place=places)
    def report(self, place: str) -> None:
        self._hear(place)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data(), goal=places, reports=st.lists(places, max_size=3))
    def move(self, data: st.DataObject, goal: str, reports: list[str]) -> None:
        """The workers have handed over before the ledger hears of it; reports may come in between."""
        source = data.draw(st.sampled_from([name for name in INSTANCES if self.running[name]]))
        generation_id = data.draw(st.sampled_from(sorted(self.running[source])))
        if goal == source or (generation_id, goal) in self.released:  # what was released may go on, but not come back
            return
        self.running[source].discard(generation_id)
        self.running[goal].add(generation_id)
        for place in reports:
            self._hear(place)
        self.grants.move(generation_id, source, goal, self._tick())

    @precondition(lambda self: any(self._granted(place) for place in INSTANCES))
    @rule(data=st.data(), goal=places, finds=st.booleans(), arrives=st.booleans())
    def look_elsewhere(self, data: st.DataObject, goal: str, finds: bool, arrives: bool) -> None:
        """Its worker is silent, and may run it all the same: whoever ends first, each counts as long as it runs."""
        granted = sorted(one for place in INSTANCES for one in self._granted(place))
        generation_id = data.draw(st.sampled_from(granted))
        self.grants.leave(generation_id, self._tick())
        if finds:
            self.grants.grant(generation_id, goal, self._tick(), _tenant(generation_id))
            self.released.discard((generation_id, goal))  # it has moved on since, and is wanted there again
            if arrives:
                self.running[goal].add(generation_id)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data(), releases=st.booleans())
    def end(self, data: st.DataObject, releases: bool) -> None:
        place = data.draw(st.sampled_from([name for name in INSTANCES if self.running[name]]))
        generation_id = data.draw(st.sampled_from(sorted(self.running[place])))
        self.running[place].discard(generation_id)
        if releases:
            self._release(generation_id)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self._release(data.draw(st.sampled_from(self.known)))

    @rule()
    def everyone_reports(self) -> None:
        """Then the ledger counts what runs, but for what was released, and what was granted, each once."""
        for place in INSTANCES:
            self._hear(place)
        granted = [_tenant(one) for one in self.known if self.grants.instance_of(one) in self._places_of(one)]
        assert self.grants.in_flight_of("acme") >= granted.count("acme"), "whoever runs is its own tenant's"
        for place in INSTANCES:
            running = {one for one in self.running[place] if (one, place) not in self.released}
            assert self.grants.in_flight(place) == len(running | self._granted(place))

    @invariant()
    def idle_is_what_has_nothing_in_flight(self) -> None:
        for place in INSTANCES:
            count = self.grants.in_flight(place)
            assert count >= len(self._granted(place))
            assert (self.grants.idle_since(place) is None) == (count > 0)

    @invariant()
    def grants_are_counted_by_tenant(self) -> None:
        granted = [_tenant(one) for one in self.known if self.grants.instance_of(one) is not None]
        counted = Counter({tenant: self.grants.in_flight_of(tenant) for tenant in TENANTS})
        assert counted.total() == len(granted)
        assert counted["acme"] <= granted.count("acme")  # who moves without a grant is the default tenant's until its
        # new worker tells of it

    def _hear(self, place: str) -> None:
        tenants = {one: _tenant(one) for one in self.running[place] if _tenant(one)}
        self.grants.report(place, frozenset(self.running[place]), self._tick(), tenants)

    def _places_of(self, generation_id: str) -> set[str]:
        return {place for place in INSTANCES if generation_id in self.running[place]}

    def _granted(self, place: str) -> set[str]:
        return {one for one in self.known if self.grants.instance_of(one) == place}

    def _arrive(self, generation_id: str) -> None:
        place = self.grants.instance_of(generation_id)
        if place is not None and generation_id not in self.arrived:
            self.arrived.add(generation_id)
            self.running[place].add(generation_id)

    def _release(self, generation_id: str) -> None:
        place = self.grants.instance_of(generation_id)
        if self.grants.release(generation_id, self._tick()) and place is not None:
            self.released.add((generation_id, place))

    def _tick(self) -> float:
        self.now += 1.0
        return self.now


def _tenant(generation_id: str) -> str:
    return TENANTS[int(generation_id[1:]) % 2]


Counting.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
TestCounting = Counting.TestCase
