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
    has_bounds: bool = False  # of its own, if it is a histogram


def instruments() -> list[Instrument]:
    """Return what is made by `create_…(name, …)`, or in a loop over a module's `_METRICS`."""
    found = [one for path in sorted(SERVICES.rglob("*.py")) if "create_" in path.read_text() for one in _made_in(path)]
    assert found, "no metric was found: does this still read the code rightly?"
    return found


def _made_in(path: Path) -> Iterator[Instrument]:
    tree = ast.parse(path.read_text())
    tables = [node.value for node in ast.walk(tree) if _target(node) == "_METRICS"]
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        _, is_one, kind = node.func.attr.partition("create_")
        if not is_one or not kind.endswith(("counter", "histogram", "gauge")):
            continue
        if isinstance(node.args[0], ast.Constant):
            has_bounds = any(keyword.arg == "explicit_bucket_boundaries_advisory" for keyword in node.keywords)
            yield Instrument(kind, node.args[0].value, _unit(node), has_bounds)
        else:
            rows = [row.elts for table in tables for row in table.elts]
            assert rows, f"{path}: a metric whose name cannot be read"
            yield from (Instrument(kind, name.value, unit.value) for name, unit, *_ in rows)


def _unit(call: ast.Call) -> str:
    units = [keyword.value for keyword in call.keywords if keyword.arg == "unit"] or call.args[1:2]
    return ast.literal_eval(units[0])


def _target(node: ast.AST) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    is_assigned = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name)
    return target.id if is_assigned else ""
