"""Findings as Markdown, and whom they concern."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import Finding, Verdict

_MARKS = {
    Verdict.PASSED: "✓",
    Verdict.WARNING: "⚠",
    Verdict.FAILED: "✗",
    Verdict.SKIPPED: "–",
}


def markdown(findings: Iterable[Finding]) -> str:
    """A table: mark, subject, test, what was found, what to do."""
    head = ["| | where | test | found | what to do |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(_row, findings)])


def _row(finding: Finding) -> str:
    found = ". ".join(part for part in (finding.fact, finding.detail) if part)
    cells = (_MARKS[finding.verdict], finding.subject, finding.test.value, found, finding.hint)
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Nothing in it ends a cell or becomes a tag."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check of several findings comes to.

    Attributes:
        findings: those it is about.
        verdict: the worst of them; skipped when nothing could be looked at.
    """

    findings: tuple[Finding, ...]

    @property
    def unfit(self) -> tuple[Finding, ...]:
        """Those that did not pass."""
        return tuple(each for each in self.findings if each.verdict is not Verdict.PASSED)

    @property
    def verdict(self) -> Verdict:
        for worst in (Verdict.FAILED, Verdict.WARNING, Verdict.PASSED):
            if any(finding.verdict is worst for finding in self.findings):
                return worst
        return Verdict.SKIPPED


def of_table(findings: Sequence[Finding], replication: Replication) -> Outcome:
    """The findings about one table, in every database."""
    prefix, suffix = f"{replication.source}/", f"/{replication.table}"
    return Outcome(
        tuple(f for f in findings if f.subject.startswith(prefix) and f.subject.endswith(suffix))
    )


def of_source(findings: Sequence[Finding], replications: Sequence[Replication]) -> Outcome:
    """The findings about no single table: our own side, the way, the server, databases."""
    about = {f for r in replications for f in of_table(findings, r).findings}
    return Outcome(tuple(finding for finding in findings if finding not in about))
