"""One thing that was looked at, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pg_ingest.errors import PgIngestError


class Verdict(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one test.

    Attributes:
        subject: what was looked at: `destination`, `shop`, `shop/app`, `shop/app/public.orders`.
        test: short name of the test (`connection`, `table`, `columns`, `filter`, `key`, …).
        fact: what was found, one line.
        detail, hint: as in errors; the hint is the exact step where there is one.
    """

    subject: str
    test: str
    verdict: Verdict
    fact: str
    detail: str = ""
    hint: str = ""


def passed(subject: str, test: str, fact: str) -> Finding:
    return Finding(subject, test, Verdict.PASSED, fact)


def warning(subject: str, test: str, fact: str, hint: str = "") -> Finding:
    return Finding(subject, test, Verdict.WARNING, fact, hint=hint)


def skipped(subject: str, test: str, why: str) -> Finding:
    return Finding(subject, test, Verdict.SKIPPED, why)


def failed(subject: str, test: str, error: PgIngestError) -> Finding:
    return Finding(subject, test, Verdict.FAILED, error.message, error.detail, error.hint)
