"""What the pages say can be followed: links, named modules, whole configurations."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import pg_ingest
from pg_ingest.config.load import load_config
from pg_ingest.config.method import Method
from pg_ingest_tests.test_floors import FLOORS

PACKAGE = Path(pg_ingest.__file__).parent
ROOT = PACKAGE.parent
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _CODE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        missing = not target.exists() or (anchor and anchor not in anchors(target))
        found += [link] if missing else []
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`: c\n[1](#a-b-c) [2](#a) [3](page.md#a-b-c) [4](gone.md) [5](https://x)\n"
    )
    assert broken(page) == ["#a", "gone.md"]


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            links = [link.partition("#")[0] for link in _LINK.findall(prose(page))]
            waiting += [
                (page.parent / link).resolve() for link in links if link and "://" not in link
            ]
    assert set(PAGES) <= seen


@pytest.mark.parametrize("name", ["README.md", "docs/methods.md", "docs/configuration.md"])
def test_every_method_has_a_row_or_column(name: str) -> None:
    tables = "".join(re.findall(r"^\|.*$", (ROOT / name).read_text(), re.MULTILINE))
    assert [method.value for method in Method if f"| `{method.value}` |" not in tables] == []


def test_every_method_has_a_section() -> None:
    assert {method.value for method in Method} <= anchors(ROOT / "docs" / "methods.md")


def test_every_room_stands_on_its_floor() -> None:
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", ARCHITECTURE.read_text(), re.MULTILINE)
    told = {
        name.removesuffix("/").removesuffix(".py"): int(floor)
        for floor, rooms in rows
        for name in re.findall(r"`([^`]+)`", rooms)
    }
    assert told == {name: floor for name, floor in FLOORS.items() if name != "pg_ingest"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_modules_are_there(page: Path) -> None:
    named = re.findall(r"`([a-z_0-9/]+\.py)`", page.read_text(encoding="utf-8"))
    places = (ROOT, PACKAGE, PACKAGE / "methods")
    assert [name for name in named if not any((at / name).exists() for at in places)] == []


def configurations() -> list[tuple[str, str]]:
    """Every whole configuration in a block of YAML, with the page it is on."""
    blocks = [
        (str(page.relative_to(ROOT)), block)
        for page in PAGES
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    ]
    return [found for found in blocks if re.search(r"^sources:", found[1], re.M)]


@pytest.mark.parametrize(("page", "text"), configurations())
def test_configurations_can_be_loaded(page: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "pg_ingest.yaml"
    destination = "" if "destination:" in text else "destination: {path: warehouse.duckdb}\n"
    path.write_text(destination + text)
    assert load_config(path).config.sources, page
