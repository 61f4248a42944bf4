"""Ranges read from the socket into place: against a web server and S3, and when something is in the way."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kindling.platform.clock import SystemClock
from kindling.storage.adapters.bucket import Bucket, BucketAccess
from kindling.storage.adapters.direct_gets import DirectGets
from kindling.storage.adapters.io_executor import IoExecutor
from support.object_store import BUCKET, Fault, FaultyServer
from support.storage_node import Place

DATA = bytes(range(256)) * (3 << 12)
RANGE = slice(5000, 5000 + (2 << 20))
BAD_ANSWERS = [fault for fault in Fault if fault not in {Fault.FLIPPED, Fault.SILENCE}]


@contextmanager
def direct_gets(uri: str, *, anonymous: bool = False) -> Iterator[DirectGets]:
    bucket = Bucket(uri, BucketAccess(anonymous=anonymous))
    with IoExecutor(2, "object-io") as io, DirectGets(bucket.signed_url, 20.0, io, SystemClock()) as gets:
        yield gets


async def filled(gets: DirectGets, name: str = "a b.safetensors") -> bytes | None:
    """The range, or None if it could not be read."""
    into = bytearray(RANGE.stop - RANGE.start)
    return bytes(into) if await gets.fill(name, RANGE.start, memoryview(into)) else None


@pytest.fixture
def served(place: Place, server: FaultyServer) -> FaultyServer:
    (place.remote / "a b.safetensors").write_bytes(DATA)
    return server


async def test_a_web_server(served: FaultyServer) -> None:
    with direct_gets(served.uri) as gets:
        assert await asyncio.gather(*(filled(gets) for _ in range(4))) == [DATA[RANGE]] * 4


async def test_s3_by_signed_urls(s3: None) -> None:
    bucket = Bucket(f"s3://{BUCKET}/folder", BucketAccess())
    await asyncio.to_thread(bucket.write, "a b.safetensors", len(DATA), [DATA])
    with direct_gets(bucket.uri) as gets:
        assert await filled(gets) == DATA[RANGE]
    with direct_gets(bucket.uri, anonymous=True) as gets:
        assert await filled(gets) is None, "nothing signs for somebody without credentials"


@pytest.mark.parametrize("fault", BAD_ANSWERS, ids=lambda fault: fault.name)
async def test_what_is_no_plain_answer_is_left_to_others(served: FaultyServer, fault: Fault) -> None:
    with direct_gets(served.uri) as gets:
        served.always = fault
        assert await filled(gets) is None
        served.always = None
        assert await filled(gets) == DATA[RANGE], "it is tried anew the next time"


async def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(served: FaultyServer) -> None:
    with direct_gets(served.uri) as gets:
        assert await filled(gets) == DATA[RANGE]
        served.faults = [Fault.CLOSED]
        assert await filled(gets) == DATA[RANGE]
        assert not served.faults


async def test_who_gives_up_need_not_wait_for_the_end(served: FaultyServer) -> None:
    served.faults = [Fault.SILENCE]
    with direct_gets(served.uri) as gets:
        reading = asyncio.create_task(filled(gets))
        await asyncio.to_thread(served.silent.wait)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert not served.released.is_set(), "the server had more to say"


async def test_a_proxy_is_for_others_to_go_by(served: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with direct_gets(served.uri) as gets:
        assert await filled(gets) is None
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with direct_gets(served.uri) as gets:
        assert await filled(gets) == DATA[RANGE]
