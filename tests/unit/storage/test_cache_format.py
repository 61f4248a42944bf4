from pathlib import Path

import pytest

from kindling.platform.errors import FailedPreconditionError
from kindling.storage.adapters.cache_format import FORMAT_FILE, require_format


def test_marks_a_directory_and_takes_it_again(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()  # from before there were marks
    require_format(tmp_path)
    assert (tmp_path / FORMAT_FILE).read_text() == '{"version": 1}'
    require_format(tmp_path)


@pytest.mark.parametrize(
    "content", ['{"version": 2}', '{"version": "1"}', "{}", "[]", "1", "", "{", '{"version": null}']
)
def test_refuses_what_is_no_mark_of_this_version(tmp_path: Path, content: str) -> None:
    (tmp_path / FORMAT_FILE).write_text(content)
    with pytest.raises(FailedPreconditionError, match="It is a cache: empty it") as caught:
        require_format(tmp_path)
    assert caught.value.reason == "CACHE_DIR_FORMAT"
    assert (tmp_path / FORMAT_FILE).read_text() == content
