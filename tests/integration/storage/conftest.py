from pathlib import Path

import pytest

from support.storage_node import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
