"""Every metric that the services' code makes, as its source says."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVICES = Path(__file__).parents[2] / "services" / "kindling"


@dataclass(frozen=True)
class Instrument:
    kind: str
    name: str
    unit: str


def instruments() -> list[Instrument]:
    """Return what is made by `create_…(name, …)`, or in a loop over a module's `_METRICS`."""
    found = [one for path in sorted(SERVICES.rglob("*.py")) if "create_" in path.read_text() for one in _made_in(path)]
    assert found, "no metric was found: does this still read the code rightly?"
    return found


def _made_in(path: Path) -> Iterator[Instrument]:
    tree = ast.parse(path.read_text())
    tables = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and _target(node) == "_METRICS"]
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        _, is_one, kind = node.func.attr.partition("create_")
        if not is_one or not kind.endswith(("counter", "histogram", "gauge")):
            continue
        if isinstance(node.args[0], ast.Constant):
            yield Instrument(kind, node.args[0].value, _unit(node))
        else:
            rows = [ast.literal_eval(table) for table in tables]
            assert rows, f"{path}: a metric whose name cannot be read"
            yield from (Instrument(kind, name, unit) for table in rows for name, unit, *_ in table)


def _unit(call: ast.Call) -> str:
    units = [keyword.value for keyword in call.keywords if keyword.arg == "unit"] or call.args[1:2]
    return ast.literal_eval(units[0])


def _target(node: ast.Assign) -> str:
    return node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
