import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from kindling.platform.errors import (
    InvalidArgumentError,
    KindlingError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from kindling.platform.etcd import Credentials, EtcdClient, Put, TlsConfig, absent
from support.certificates import Certificates, make_certificates
from support.etcd_server import EtcdServer, free_port, running_etcd

ROOT = Credentials("root", "secret of root")
READER = Credentials("reader", "secret of reader")


class HurriedClock:
    """Time that passes twenty times as fast."""

    def now(self) -> float:
        return time.monotonic() * 20

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """Accepts connections, never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_dead_first_endpoint_is_left_for_the_next(shared_etcd: EtcdServer, prefix: str) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    async with EtcdClient([dead, shared_etcd.endpoint]) as client:
        assert (await client.transact([absent(prefix)], [Put(prefix, b"1")])).succeeded
        async with aclosing(client.watch(prefix)) as updates:
            await anext(updates)
        async with client.lease(5) as lease:
            assert not lease.lost.is_set()


async def test_a_silent_first_endpoint_is_left_for_the_next(
    shared_etcd: EtcdServer, silent_endpoint: str, prefix: str
) -> None:
    async with EtcdClient([silent_endpoint, shared_etcd.endpoint]) as client:
        assert await client.put(prefix, b"1") > 0


async def test_unreachable_endpoints_are_named_in_bounded_time() -> None:
    endpoints = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    clock = HurriedClock()
    started = clock.now()
    async with EtcdClient(endpoints, clock=clock) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.get("a")
    assert clock.now() - started < 20
    assert caught.value.reason == "ETCD_UNREACHABLE"
    assert all(endpoint in caught.value.message for endpoint in endpoints)


@pytest.mark.parametrize("endpoints", [[], ["ftp://localhost:1"], ["localhost"], ["http://h:1/path"], ["http://h:x"]])
async def test_endpoints_must_be_addresses(endpoints: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        async with EtcdClient(endpoints):
            pass
    assert caught.value.reason == "ETCD_ENDPOINT_INVALID"


@pytest.fixture
def guarded_etcd(own_etcd: EtcdServer) -> EtcdServer:
    """An etcd that asks for passwords: root may do everything, reader may read below r/."""
    for user in (ROOT, READER):
        own_etcd.call_json("/v3/auth/user/add", {"name": user.user, "password": user.password})
        own_etcd.call_json("/v3/auth/role/add", {"name": user.user})
        own_etcd.call_json("/v3/auth/user/grant", {"user": user.user, "role": user.user})
    permission = {"permType": "READ", "key": "ci8=", "range_end": "cjA="}  # r/ to r0
    own_etcd.call_json("/v3/auth/role/grant", {"name": "reader", "perm": permission})
    own_etcd.call_json("/v3/auth/enable", {})
    return own_etcd


async def test_a_user_does_what_it_may(guarded_etcd: EtcdServer) -> None:
    async with EtcdClient([guarded_etcd.endpoint], credentials=ROOT) as root:
        await root.put("r/a", b"1")
        async with root.lease(5) as lease:
            await root.put("r/b", b"1", lease_id=lease.lease_id)
    async with EtcdClient([guarded_etcd.endpoint], credentials=READER) as reader:
        assert [item.key for item in (await reader.get_prefix("r/")).items] == ["r/a"]
        with pytest.raises(PermissionDeniedError):
            await reader.put("r/a", b"2")
        with pytest.raises(PermissionDeniedError):
            async with aclosing(reader.watch("s/")) as updates:
                await anext(updates)


@pytest.mark.faults
async def test_a_token_forgotten_by_etcd_is_renewed(guarded_etcd: EtcdServer) -> None:
    async with (
        EtcdClient([guarded_etcd.endpoint], credentials=ROOT) as client,
        aclosing(client.watch("r/")) as updates,
    ):
        await client.put("r/a", b"1")
        await anext(updates)
        guarded_etcd.kill()
        await guarded_etcd.restart_async()
        assert (await client.transact([absent("r/b")], [Put("r/b", b"1")])).succeeded
        await anext(updates)


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [(None, "ETCD_CREDENTIALS_REQUIRED"), (Credentials("root", "wrong"), "ETCD_BAD_CREDENTIALS")],
)
async def test_who_is_not_known_is_told_so(
    guarded_etcd: EtcdServer, credentials: Credentials | None, reason: str
) -> None:
    async with EtcdClient([guarded_etcd.endpoint], credentials=credentials) as client:
        with pytest.raises(UnauthenticatedError) as caught:
            await client.put("a", b"")
    assert caught.value.reason == reason


def test_a_password_is_not_shown() -> None:
    assert ROOT.password not in repr(ROOT)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_etcd(certificates: Certificates) -> Iterator[EtcdServer]:
    """An etcd that speaks TLS and asks for a client's certificate."""
    files = ("--cert-file", certificates.certificate, "--key-file", certificates.key)
    asks = ("--client-cert-auth", "--trusted-ca-file", certificates.authority)
    with running_etcd(scheme="https", extra_args=[str(each) for each in (*files, *asks)]) as server:
        yield server


async def test_both_sides_prove_themselves_over_tls(tls_etcd: EtcdServer, certificates: Certificates) -> None:
    tls = TlsConfig(certificates.authority, certificates.certificate, certificates.key)
    async with EtcdClient([tls_etcd.endpoint], tls=tls) as client:
        await client.put("a", b"1")
        async with aclosing(client.watch("a")) as updates:
            await anext(updates)


@pytest.mark.parametrize("side", ["client shows no certificate", "server's authority is not trusted"])
async def test_an_unproven_side_is_refused(
    tls_etcd: EtcdServer, certificates: Certificates, tmp_path: Path, side: str
) -> None:
    trusted = certificates.authority if side.startswith("client") else make_certificates(tmp_path).authority
    async with EtcdClient([tls_etcd.endpoint], tls=TlsConfig(trusted), clock=HurriedClock()) as client:
        with pytest.raises(KindlingError) as caught:
            await client.put("a", b"1")
    assert caught.value.reason == "ETCD_UNREACHABLE"


async def test_tls_is_not_given_up_for_an_http_address() -> None:
    with pytest.raises(InvalidArgumentError, match="in the clear"):
        async with EtcdClient(["http://127.0.0.1:2379"], tls=TlsConfig()):
            pass
