"""The floors of the package: a module imports only its own floor and lower ones, in no circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pg_ingest
from pg_ingest import errors

PACKAGE = Path(pg_ingest.__file__).parent
RUNBOOK = PACKAGE.parent / "docs" / "runbook.md"

FLOORS: dict[str, int] = {
    "defs": 5,
    "definitions": 5,
    "cli": 5,
    "demo": 5,
    "rediscover": 4,
    "loading": 4,
    "following": 4,
    "doctor": 4,
    "setup": 4,
    "methods": 3,
    "changelog": 3,
    "postgres": 2,
    "tunnel": 2,
    "destinations": 2,
    "decode": 1,
    "config": 0,
    "catalog_file": 0,
    "table": 0,
    "bookmark": 0,
    "lsn": 0,
    "batch": 0,
    "aws": 0,
    "errors": 0,
    "progress": 0,
    "pg_ingest": 0,
}
"""By the first name below the package; `pg_ingest` is its `__init__`."""

DRIVER = ("postgres",)
ORCHESTRATOR = ("defs", "definitions", "cli")
_UNUSUAL_NAMES = {"utils", "helpers", "common", "manager", "base"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(path: Path, *, typing_only: bool = True) -> set[str]:
    """Full names of what a file imports, wherever in it; `typing_only`: also for annotations."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if is_type_checking(node) and not typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return found


def own(path: Path, **options: bool) -> set[str]:
    return {name for name in imports(path, **options) if name in MODULES}


def test_every_module_has_a_floor() -> None:
    assert {room(module) for module in MODULES} <= set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_nothing_from_above(module: str) -> None:
    above = {n for n in own(MODULES[module]) if FLOORS[room(n)] > FLOORS[room(module)]}
    assert not above


def test_no_circle() -> None:
    graph = {
        module: own(path, typing_only=False) - {module, *parents(module)}
        for module, path in MODULES.items()
    }
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


def parents(module: str) -> set[str]:
    """The packages a module is in: importing them is no choice of the module."""
    parts = module.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))}


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("dagster", ORCHESTRATOR),
        ("psycopg", DRIVER),
        ("asyncssh", ("tunnel",)),
        ("duckdb", ("destinations", "demo")),
        ("boto3", ("aws",)),
    ],
)
def test_library_stays_in_its_rooms(library: str, rooms: tuple[str, ...]) -> None:
    importers = {
        module
        for module, path in MODULES.items()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert importers
    assert {room(module) for module in importers} <= set(rooms)


def test_postgres_and_destinations_never_meet() -> None:
    for module, path in MODULES.items():
        met = {room(name) for name in own(path)}
        assert not (room(module) == "postgres" and "destinations" in met), module
        assert not (room(module) == "destinations" and "postgres" in met), module


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {m for m in MODULES if set(m.split(".")) & _UNUSUAL_NAMES}


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in ("defs", "definitions")])
def test_dagster_can_read_annotations(module: str) -> None:
    """Dagster looks at the annotations of assets, ops, sensors and schedules: they must be objects."""
    source = MODULES[module].read_text(encoding="utf-8")
    decorators = ("@dg.multi_asset", "@dg.asset", "@dg.op", "@dg.sensor", "@dg.schedule")
    defines = any(decorator in source for decorator in decorators)
    assert not (defines and "from __future__ import annotations" in source)


def error_classes() -> list[str]:
    return [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, errors.PgIngestError)
        and value not in (errors.PgIngestError, errors.PassingFault, errors.PersonMustAct)
    ]


@pytest.mark.parametrize("name", error_classes())
def test_runbook_has_a_section(name: str) -> None:
    sections = RUNBOOK.read_text(encoding="utf-8").split("\n## ")
    section = next((text for text in sections if text.splitlines()[0].strip() == name), "")
    assert "**Cause.**" in section
    assert "**Remedy.**" in section
