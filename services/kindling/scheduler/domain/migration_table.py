"""The migrations under way, by source and by target."""

from collections import defaultdict

from kindling.scheduler.domain.values import Migration


class MigrationTable(dict[str, Migration]):
    """Migrations by source; those of an instance are found without a look at all others. Changed by ``enter`` and
    ``end`` alone."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: defaultdict[str, dict[str, None]] = defaultdict(dict)  # by target, in the order they came

    def enter(self, migration: Migration) -> None:
        """A migration begins, or goes on as it is now."""
        if (known := self.get(migration.source_id)) is not None and known.target_id != migration.target_id:
            self.end(known)
        self[migration.source_id] = migration
        self._sources[migration.target_id][migration.source_id] = None

    def end(self, migration: Migration) -> None:
        """A migration that is known is over."""
        del self[migration.source_id]
        del self._sources[migration.target_id][migration.source_id]
        if not self._sources[migration.target_id]:
            del self._sources[migration.target_id]

    def to(self, target_id: str) -> list[Migration]:
        """The migrations to an instance."""
        return [self[source_id] for source_id in self._sources.get(target_id, ())]

    def of(self, instance_id: str) -> list[Migration]:
        """The migrations from or to an instance."""
        own = self.get(instance_id)
        return [own, *self.to(instance_id)] if own else self.to(instance_id)

    def check_integrity(self) -> None:
        """Raise AssertionError if the targets do not say the same."""
        found = {(source, target) for target, sources in self._sources.items() for source in sources}
        assert found == {(one.source_id, one.target_id) for one in self.values()}
