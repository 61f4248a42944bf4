"""Typed access to a JSON object that a client sent; every mistake names the field."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from kindling.platform.errors import InvalidArgumentError


def invalid(message: str, field: str, reason: str = "INVALID_VALUE") -> InvalidArgumentError:
    """Return the error for a bad request field."""
    return InvalidArgumentError(message, reason=reason, field=field)


class Fields:
    """The fields of one JSON object. A field that is absent or null has its default.

    Every getter raises :class:`InvalidArgumentError` with ``field`` set if the value has the wrong type or range.
    """

    def __init__(self, values: object, path: str = "") -> None:
        if not isinstance(values, dict):
            raise invalid(f"{path or 'The request body'} must be a JSON object.", path or "body", "INVALID_TYPE")
        self.values: Mapping[str, Any] = values
        self._path = path

    def path(self, name: str) -> str:
        """Return the full name of a field, for messages."""
        return f"{self._path}.{name}" if self._path else name

    def get(self, name: str) -> Any:
        """Return the value as it is, or None."""
        return self.values.get(name)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Raise if there is a field not in ``known``."""
        for name in self.values.keys() - set(known):
            raise invalid(f"Unrecognized request argument supplied: {_shown(name)}.", self.path(name), "UNKNOWN_FIELD")

    def boolean(self, name: str, default: bool = False) -> bool:
        """Return a boolean."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong_type(name, "a boolean")
        return value

    def string(self, name: str) -> str:
        """Return a string that must be there."""
        value = self.get(name)
        if not isinstance(value, str):
            raise self._wrong_type(name, "a string") if value is not None else self.missing(name)
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return an integer within ``low`` and ``high``, both included, or None."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong_type(name, "an integer")
        if not low <= value <= high:
            raise invalid(f"{self.path(name)} must be between {low} and {high}, not {value}.", self.path(name))
        return value

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """Return a finite number within ``low`` and ``high``, both included."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong_type(name, "a number")
        if not math.isfinite(value) or not low <= value <= high:
            raise invalid(f"{self.path(name)} must be between {low:g} and {high:g}.", self.path(name))
        return float(value)

    def missing(self, name: str) -> InvalidArgumentError:
        """Return the error for a field that must be there."""
        return invalid(f"Missing required parameter: {self.path(name)}.", self.path(name), "MISSING_FIELD")

    def _wrong_type(self, name: str, wanted: str) -> InvalidArgumentError:
        kind = type(self.get(name)).__name__
        return invalid(f"{self.path(name)} must be {wanted}, not {kind}.", self.path(name), "INVALID_TYPE")


def _shown(text: str) -> str:
    return text if len(text) <= 64 else text[:61] + "..."
