"""docs/checks.md has exactly the tests that there are; the pages it and the setup pages link to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pg_ingest
from pg_ingest.doctor.finding import Test

DOCS = Path(pg_ingest.__file__).parent.parent / "docs"
PAGES = [DOCS / "checks.md", *sorted((DOCS / "setup").glob("*.md"))]


def test_every_check_has_a_row() -> None:
    first = re.findall(
        r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", (DOCS / "checks.md").read_text(), re.MULTILINE
    )
    told = [name for cell in first for name in re.findall(r"`([a-z-]+)`", cell)]
    assert sorted(told) == sorted(test.value for test in Test)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", page.read_text()):
        assert not target or (page.parent / target).exists(), target
