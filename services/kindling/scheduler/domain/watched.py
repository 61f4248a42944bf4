"""Collections that tell of what is put into them and taken out, so that indexes over them can never be forgotten."""

from collections.abc import Callable, Iterable, MutableMapping, MutableSet
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class WatchedDict(dict[str, Value], Generic[Value]):
    """A dict that names each key whose value has changed, after the change."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        super().__init__()
        self._changed = changed

    def __setitem__(self, key: str, value: Value) -> None:
        super().__setitem__(key, value)
        self._changed(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._changed(key)

    def become(self, values: Iterable[tuple[str, Value]]) -> None:
        """Hold these and nothing else."""
        fresh = dict(values)
        for key in self.keys() - fresh.keys():
            del self[key]
        self.update(fresh)

    def pop(self, key: str, *default: Any) -> Any:
        """Take a value out, or return the default if there is none; raises KeyError if there is no default either."""
        value = super().pop(key, *default)
        self._changed(key)
        return value

    # As the abstract mapping has them: by the others.
    popitem: Any = MutableMapping.popitem
    clear: Any = MutableMapping.clear
    update: Any = MutableMapping.update
    setdefault: Any = MutableMapping.setdefault


class WatchedSet(set[str]):
    """A set that names each member that came or left, after the change."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        super().__init__()
        self._changed = changed

    def add(self, name: str) -> None:
        """Put a member in."""
        super().add(name)
        self._changed(name)

    def discard(self, name: object) -> None:
        """Take a member out, if it is in."""
        super().discard(name)
        self._changed(str(name))

    def become(self, names: Iterable[str]) -> None:
        """Hold these and nothing else."""
        fresh = set(names)
        for name in self - fresh:
            self.discard(name)
        for name in fresh:
            self.add(name)

    def clear(self) -> None:
        """Take everything out."""
        self.become(())

    remove: Any = MutableSet.remove
    pop: Any = MutableSet.pop
    __ior__: Any = MutableSet.__ior__
    __iand__: Any = MutableSet.__iand__
    __isub__: Any = MutableSet.__isub__
    __ixor__: Any = MutableSet.__ixor__
