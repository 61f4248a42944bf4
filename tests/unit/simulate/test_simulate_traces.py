"""Traces: the packaged ones are the published ones; bad files say which line and column is wrong."""

import gzip
import hashlib
import re
import tomllib
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

import pytest

from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from kindling.simulate.traces import PACKAGED_TRACES, TracedRequest, load_trace, parse_trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
DATA = resources.files("kindling.simulate") / "data"


@pytest.mark.parametrize(
    ("name", "requests", "first", "seconds"),
    [("azure-conv", 19_366, (374, 44), 3501.721937), ("azure-code", 8_819, (4808, 10), 3435.948056)],
)
def test_packaged_traces(name: str, requests: int, first: tuple[int, int], seconds: float) -> None:
    trace = load_trace(name)
    assert trace.name == name
    assert len(trace.requests) == requests
    assert trace.requests[0] == TracedRequest(0.0, *first)
    assert trace.duration_seconds == pytest.approx(seconds, abs=1e-9)


def test_packaged_traces_are_the_published_ones() -> None:
    attribution = (DATA / "ATTRIBUTION.md").read_text()
    stated = dict(re.findall(r"`(\S+\.csv)` \| `([0-9a-f]{64})`", attribution))
    found = {
        packaged.removesuffix(".gz"): hashlib.sha256(gzip.decompress((DATA / packaged).read_bytes())).hexdigest()
        for packaged in PACKAGED_TRACES.values()
    }
    assert found == stated


def test_an_installed_package_has_them() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    globs = pyproject["tool"]["setuptools"]["package-data"]["kindling.simulate"]
    files = [f"data/{file.name}" for file in DATA.iterdir()]
    assert all(any(fnmatch(file, glob) for glob in globs) for file in files)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "END"])
def test_line_ends(line_end: str, end: str) -> None:
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:15:46.6805900,374,44", ""]
    content = line_end.join(rows + (["2023-11-16 18:15:47,5,6"] if end else []))
    trace = parse_trace("t", content.encode())
    assert [one.prompt_tokens for one in trace.requests] == ([374, 5] if end else [374])


def test_times_keep_100_ns_and_are_sorted() -> None:
    content = (
        "GeneratedTokens,Region,ContextTokens,TIMESTAMP\n"
        "6,x,5,2023-11-16 00:00:00.0000002\n"
        "4,x,3,2023-11-15 23:59:59.9999999\n"
        "2,x,1,2023-11-16T00:00:01Z\n"
    )
    requests = parse_trace("t", content.encode()).requests
    assert [one.at_seconds for one in requests] == pytest.approx([0.0, 3e-7, 1.0000001], abs=1e-12)
    assert [(one.prompt_tokens, one.output_tokens) for one in requests] == [(3, 4), (5, 6), (1, 2)]


@pytest.mark.parametrize(
    ("content", "line", "column", "said"),
    [
        ("", 1, "TIMESTAMP", "header"),
        ("TIMESTAMP,ContextTokens\n", 1, "GeneratedTokens", "header"),
        (HEADER, 2, "TIMESTAMP", "no request"),
        (HEADER + "2023-11-16 18:15:46,1,1\n18:15,1,1\n", 3, "TIMESTAMP", "'18:15'"),
        (HEADER + "\n2023-02-30 18:15:46,1,1\n", 3, "TIMESTAMP", "'2023-02-30 18:15:46'"),
        (HEADER + "2023-11-16 18:15:46.12345678,1,1\n", 2, "TIMESTAMP", "not a time"),
        (HEADER + "2023-11-16 18:15:46,1\n", 2, "GeneratedTokens", "ends after 2"),
        (HEADER + "2023-11-16 18:15:46,-1,1\n", 2, "ContextTokens", "'-1'"),
        (HEADER + "2023-11-16 18:15:46,0,1\n", 2, "ContextTokens", "'0'"),
        (HEADER + "2023-11-16 18:15:46,1,1.5\n", 2, "GeneratedTokens", "'1.5'"),
        (HEADER + "2023-11-16 18:15:46,1,9999999999\n", 2, "GeneratedTokens", "not a number"),
    ],
)
def test_malformed(content: str, line: int, column: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(said)) as caught:
        parse_trace("mine.csv", content.encode())
    assert caught.value.reason == "TRACE_MALFORMED"
    assert caught.value.metadata == {"trace": "mine.csv", "line": str(line), "column": column}
    assert f"mine.csv, line {line}, column {column}" in caught.value.message


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", gzip.compress(HEADER.encode())[:-4], b"\x1f\x8b\x00", b"\x1f\x8b\x08" + bytes(20)]
)
def test_not_a_csv_file(content: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="not a CSV file"):
        parse_trace("t", content)


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_of_ones_own(tmp_path: Path, compress: bool) -> None:
    content = (HEADER + "2023-11-16 18:15:46,7,8\n").encode()
    path = tmp_path / "mine.csv"
    path.write_bytes(gzip.compress(content) if compress else content)
    assert load_trace(path).requests == (TracedRequest(0.0, 7, 8),)
    assert load_trace(str(path)).name == str(path)


def test_a_missing_file_says_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="azure-conv, azure-code") as caught:
        load_trace("azure")
    assert caught.value.reason == "TRACE_NOT_FOUND"


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="cannot be read") as caught:
        load_trace(tmp_path)
    assert caught.value.reason == "TRACE_UNREADABLE"
