"""docs/checks.md has exactly the tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pg_ingest
from pg_ingest.doctor.finding import Test

DOCS = Path(pg_ingest.__file__).parent.parent / "docs"


def test_every_check_has_a_row() -> None:
    first = re.findall(
        r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", (DOCS / "checks.md").read_text(), re.MULTILINE
    )
    told = [name for cell in first for name in re.findall(r"`([a-z-]+)`", cell)]
    assert sorted(told) == sorted(test.value for test in Test)
