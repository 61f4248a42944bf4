from collections.abc import Iterator
from pathlib import Path

import pytest

from support.object_store import FaultyServer, s3_server
from support.storage_node import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def server(place: Place) -> Iterator[FaultyServer]:
    place.remote.mkdir()
    with FaultyServer(place.remote).serving() as server:
        yield server


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield
