"""Where results go is checked before they are measured."""

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app

runner = CliRunner()
COMMANDS = [
    ["simulate", "--json"],
    ["bench", "place", "--json"],
    ["bench", "predict", "--json"],
    ["bench", "load", "--png"],
    ["bench", "migrate", "--png"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_no_directory_is_refused_before_the_run(command, tmp_path):
    result = runner.invoke(app, [*command, str(tmp_path / "none" / "out")])
    assert result.exit_code == 2
    assert "FILE_NOT_WRITABLE" in result.stderr
    assert "there is no directory" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_directory_is_no_file_to_write(command, tmp_path):
    result = runner.invoke(app, [*command, str(tmp_path)])
    assert (result.exit_code, "it is a directory" in result.stderr) == (2, True)


def test_a_report_needs_a_directory_that_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    result = runner.invoke(app, ["simulate", "--report", str(tmp_path / "file" / "report")])
    assert (result.exit_code, "FILE_NOT_WRITABLE" in result.stderr) == (2, True)
