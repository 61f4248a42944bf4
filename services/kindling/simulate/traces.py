"""Request traces in the format of the Azure LLM inference trace 2023; two come with the package."""

import gzip
import re
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Final

from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError, KindlingError, NotFoundError

PACKAGED_TRACES: Final = {
    "azure-conv": "azure_llm_2023_conv.csv.gz",
    "azure-code": "azure_llm_2023_code.csv.gz",
}
"""One hour of a conversation and of a code-completion service; `data/ATTRIBUTION.md` says whose work they are."""
COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
TICKS_PER_SECOND: Final = 10**7
_GZIP_MAGIC: Final = b"\x1f\x8b"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,7}))?(?:Z|\+00:00)?", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """A request as it was recorded, ``at_seconds`` after the trace's first."""

    at_seconds: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of one service by time; there is at least one, and the first comes at 0."""

    name: str
    requests: tuple[TracedRequest, ...]

    @property
    def duration_seconds(self) -> float:
        """From the first request to the last."""
        return self.requests[-1].at_seconds

    def beginning(self, seconds: float) -> "Trace":
        """Return the requests of the first so many seconds.

        Raises InvalidArgumentError DURATION_INVALID unless the trace lasts as long.
        """
        self.require_duration(seconds)
        return replace(self, requests=tuple(one for one in self.requests if one.at_seconds <= seconds))

    def require_duration(self, seconds: float) -> None:
        """Raises InvalidArgumentError DURATION_INVALID unless the trace lasts so many seconds, and these are some."""
        if not 0 < seconds <= self.duration_seconds:
            what = f"The duration is {seconds} s, but {self.name} lasts {self.duration_seconds} s"
            message = f"{what}: give one above 0, up to that."
            raise InvalidArgumentError(message, reason="DURATION_INVALID")


def load_trace(name_or_path: str | Path) -> Trace:
    """Read a packaged trace by its name, or a CSV file, gzip-compressed or not.

    A file has the columns TIMESTAMP (UTC, up to 100 ns), ContextTokens and GeneratedTokens, in any order and among
    others; lines end in LF or CRLF and need not be in order of time.

    Raises NotFoundError TRACE_NOT_FOUND, FailedPreconditionError TRACE_UNREADABLE, or InvalidArgumentError
    TRACE_MALFORMED with ``line`` and ``column``.
    """
    name = str(name_or_path)
    if (packaged := PACKAGED_TRACES.get(name)) is not None:
        content = (resources.files("kindling.simulate") / "data" / packaged).read_bytes()
        return parse_trace(name, content)
    try:
        content = Path(name_or_path).read_bytes()
    except OSError as error:
        raise _unreadable(name, error) from error
    return parse_trace(name, content)


def parse_trace(name: str, content: bytes) -> Trace:
    """Read a trace from the bytes of a file.

    Raises InvalidArgumentError TRACE_MALFORMED with ``line`` and ``column``.
    """
    lines = _text(name, content).splitlines()
    places = _places(name, lines[0] if lines else "")
    rows = [_row(name, number, line, places) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if not rows:
        raise _malformed(name, 2, COLUMNS[0], "there is no request")
    rows.sort(key=lambda row: row[0])
    first = rows[0][0]
    return Trace(name, tuple(TracedRequest((ticks - first) / TICKS_PER_SECOND, *tokens) for ticks, *tokens in rows))


def _text(name: str, content: bytes) -> str:
    try:
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _malformed(
            name, 1, COLUMNS[0], f"this is not a CSV file, nor one compressed with gzip: {error}"
        ) from error


def _places(name: str, header: str) -> list[int]:
    """Where the columns are."""
    titles = [title.strip() for title in header.split(",")]
    for column in COLUMNS:
        if column not in titles:
            raise _malformed(name, 1, column, f"the header does not name it; it should read {','.join(COLUMNS)}")
    return [titles.index(column) for column in COLUMNS]


def _row(name: str, number: int, line: str, places: list[int]) -> tuple[int, int, int]:
    """Ticks since the epoch, prompt tokens, output tokens."""
    cells = [cell.strip() for cell in line.split(",")]
    for column, place in zip(COLUMNS, places, strict=True):
        if place >= len(cells):
            raise _malformed(name, number, column, f"the line ends after {len(cells)} of its columns")
    stamp, prompt, output = (cells[place] for place in places)
    if (ticks := _ticks(stamp)) is None:
        raise _malformed(name, number, COLUMNS[0], f"{stamp!r} is not a time like 2023-11-16 18:15:46.6805900")
    return ticks, _tokens(name, number, COLUMNS[1], prompt), _tokens(name, number, COLUMNS[2], output)


def _ticks(text: str) -> int | None:
    """100 ns steps since the epoch; a datetime would round them to microseconds."""
    if (match := _TIMESTAMP.fullmatch(text)) is None:
        return None
    try:
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:  # the 30th of February
        return None
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return seconds * TICKS_PER_SECOND + int((match[2] or "").ljust(7, "0"))


def _tokens(name: str, number: int, column: str, text: str) -> int:
    if not _COUNT.fullmatch(text) or int(text) == 0:
        raise _malformed(name, number, column, f"{text!r} is not a number of tokens, 1 or more")
    return int(text)


def _malformed(name: str, number: int, column: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{name}, line {number}, column {column}: {what}.",
        reason="TRACE_MALFORMED",
        metadata={"trace": name, "line": str(number), "column": column},
    )


def _unreadable(name: str, error: OSError) -> KindlingError:
    if isinstance(error, FileNotFoundError):
        message = f"There is no trace {name!r}: name a CSV file, or one of {', '.join(PACKAGED_TRACES)}."
        return NotFoundError(message, reason="TRACE_NOT_FOUND", metadata={"trace": name})
    message = f"The trace {name!r} cannot be read: {error.strerror}."
    return FailedPreconditionError(message, reason="TRACE_UNREADABLE", metadata={"trace": name})
