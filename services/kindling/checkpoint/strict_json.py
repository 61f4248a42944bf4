"""Strict JSON: what a careless or hostile writer could make ambiguous is refused."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Self

_TYPE_NAMES = {str: "a string", int: "an integer", list: "an array", dict: "an object"}


class DuplicateKeyError(ValueError):
    """A key is there twice: readers would disagree which of its values counts."""


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``: UTF-8, no duplicate keys, no NaN, no lone surrogates; else raises ValueError."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_hook(text), parse_constant=_refuse_constant, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _hook(text: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    # What was decoded from UTF-8 gets lone surrogates by escapes only; looking at every string costs milliseconds.
    return _unique_and_unicode if "\\u" in text else _unique


def _unique_and_unicode(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, value in pairs:
        _require_unicode(key)
        if isinstance(value, str):
            _require_unicode(value)
    return _unique(pairs)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        left = dict(pairs)
        twice = next(key for key, _ in pairs if left.pop(key, pairs) is pairs)
        raise DuplicateKeyError(f"the key {twice[:200]!r} is there twice")
    return result


def _require_unicode(text: str) -> None:
    text.encode("utf-8")


def _integer(digits: str) -> int:
    # JSON's "-0" is a float to other parsers: do not let two readers disagree.
    if digits == "-0":
        raise ValueError("it holds the number -0")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


@dataclass(slots=True)
class Fields:
    """Typed access to one JSON object; every getter raises ValueError naming the field that is wrong."""

    value: dict[str, Any]
    where: str = ""

    @classmethod
    def of(cls, value: object, where: str) -> Self:
        """Wraps ``value``, which must be an object."""
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not an object")
        return cls(value, where)

    def only(self, *names: str) -> Self:
        """Requires exactly these fields."""
        if self.value.keys() == set(names):
            return self
        if unknown := self.value.keys() - set(names):
            raise ValueError(f"{self._at(min(unknown))} is not a known field")
        if missing := set(names) - self.value.keys():
            raise ValueError(f"{self._at(min(missing))} is missing")
        return self

    def string(self, name: str) -> str:
        """A string field."""
        return str(self._typed(name, str))

    def integer(self, name: str, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
        """An integer field within bounds, both included."""
        value = int(self._typed(name, int))
        if not minimum <= value <= maximum:
            raise ValueError(f"{self._at(name)} is {value}, not within {minimum} and {maximum}")
        return value

    def array(self, name: str) -> list[Any]:
        """An array field."""
        return list(self._typed(name, list))

    def integers(self, name: str) -> tuple[int, ...]:
        """An array field of integers that are not negative."""
        values = self.array(name)
        if not all(type(value) is int and 0 <= value < 2**63 for value in values):
            raise ValueError(f"{self._at(name)} holds something other than integers from 0 to 2^63 - 1")
        return tuple(values)

    def objects(self, name: str) -> Iterator["Fields"]:
        """An array field of objects."""
        for index, value in enumerate(self.array(name)):
            yield Fields.of(value, f"{self._at(name)}[{index}]")

    def _typed(self, name: str, kind: type) -> Any:
        value = self.value.get(name)
        if type(value) is not kind:  # bool is an int to isinstance
            raise ValueError(f"{self._at(name)} is not {_TYPE_NAMES[kind]}")
        return value

    def _at(self, name: str) -> str:
        shown = name[:200]
        return f"{self.where}.{shown}" if self.where else shown
