"""`kindling simulate` as one meets it: what it refuses, what it prints, what it writes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app
from kindling.platform.errors import InvalidArgumentError
from kindling.simulate.policies import PolicyName
from kindling.simulate.text_table import TextTable
from kindling.simulate.traces import Trace, TracedRequest

QUICK = ["simulate", "--cv", "1", "--rate", "1", "--duration", "30", "--seeds", "1"]
TRACE = Trace("three", tuple(TracedRequest(at, 10, 10) for at in (0.0, 5.0, 9.0)))
runner = CliRunner()


def test_the_beginning_of_a_trace_is_replayed() -> None:
    assert TRACE.beginning(5.0) == replace(TRACE, requests=TRACE.requests[:2])
    assert TRACE.beginning(9.0) == TRACE
    with pytest.raises(InvalidArgumentError, match=r"lasts 9\.0 s"):
        TRACE.beginning(9.1)


def test_a_duration_shortens_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = "\n".join(f"2023-11-16 18:15:{second:02}.0,10,5" for second in range(40))
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}\n")
    out = tmp_path / "out.json"
    arguments = ["--trace", str(path), "--duration", "9.5", "--seeds", "1", "--policies", "random", "--json", str(out)]
    result = runner.invoke(app, ["simulate", *arguments])
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_bytes())["requests"] == 10


def test_tables_fit_80_columns_and_names_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kindling.bench.console._WIDTH_WITHOUT_TERMINAL", 80)
    result = runner.invoke(app, QUICK)
    assert result.exit_code == 0, result.output
    assert "…" not in result.stdout
    for whole in ("download-cached", "always-on", "REMOTE", "preempted", "prefetch", "times that of full"):
        assert whole in result.stdout
    assert "32 models of opt-6.7b on 4 nodes of paper-a40" in result.stdout


def test_a_heading_of_two_lines_is_one_in_markdown() -> None:
    table = TextTable("t", ("name", "gave\nup"), [("a", "1")])
    assert "| name | gave up |" in table.markdown()


def test_a_report_says_what_was_simulated(tmp_path: Path) -> None:
    result = runner.invoke(app, [*QUICK, "--policies", "full,random", "--report", str(tmp_path / "new" / "report")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "new" / "report" / "report.md").read_text()
    assert "32 models of opt-6.7b on 4 nodes of paper-a40" in text
    assert "1 workload of" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policies", ""], "name one at least of full"),
        (["--suite", "paper", "--models", "3"], "--models"),
        (["--suite", "paper", "--policies", "full"], "--policies"),
        (["--keep-alive", "inf"], "--keep-alive"),
        (["--price", "inf"], "--price"),
        (["--duration", "100000"], "DURATION_INVALID"),
        (["--rate", "inf", "--cv", "1"], "RATE_INVALID"),
        (["--cv", "inf"], "CV_INVALID"),
    ],
)
def test_what_cannot_be_simulated_is_wrong_usage(options: list[str], said: str) -> None:
    result = runner.invoke(app, ["simulate", *options])
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_in_a_crowd_nobody_is_turned_away_at_once_to_make_the_mean_look_good(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    crowd = ["--cv", "1", "--rate", "60", "--duration", "40", "--lengths", "sharegpt", "--models", "1", "--nodes", "1"]
    policies = ["--policies", "full,random", "--seeds", "1", "--json", str(out)]
    assert runner.invoke(app, ["simulate", *crowd, *policies]).exit_code == 0
    full, random = json.loads(out.read_bytes())["cells"]
    assert full["requests"] > 2000
    assert full["mean_seconds"] == pytest.approx(random["mean_seconds"], rel=0.1)
    assert full["refused"] == pytest.approx(random["refused"], rel=0.2)


def test_help_names_the_catalogues() -> None:
    text = " ".join(runner.invoke(app, ["simulate", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "llama-3-8b or llama-3-70b" in text
    assert "paper-a40 or h100-box" in text


def test_help_says_what_each_policy_is() -> None:
    described = runner.invoke(app, ["simulate", "--help"], env={"COLUMNS": "200"}).output.partition("Options")[0]
    assert [name for name in PolicyName if name.value not in described] == []
