"""`pg-ingest check`: everything that must be right, looked at in one pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from pg_ingest.cli.options import config_option, json_option
from pg_ingest.cli.output import print_json
from pg_ingest.config.load import load_config
from pg_ingest.config.problem import did_you_mean
from pg_ingest.doctor.finding import Finding, Verdict

_MARKS = {
    Verdict.PASSED: ("✓", "green"),
    Verdict.WARNING: ("!", "yellow"),
    Verdict.FAILED: ("✗", "red"),
    Verdict.SKIPPED: ("–", "bright_black"),
}


@click.command("check", short_help="Test everything a sync needs.")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@config_option
@json_option
@click.pass_context
def command(
    context: click.Context, sources: tuple[str, ...], config_path: Path | None, as_json: bool
) -> None:
    """Test the destination, connections, logins, grants, server settings, tables, filters and keys.

    Nothing is changed. A sample of rows is read and thrown away, for the speed. Every test passes, warns,
    fails or is skipped with a reason; exit code 1 when one fails.
    """
    loaded = load_config(config_path)
    for name in sources:
        if name not in loaded.config.sources:
            hint = did_you_mean(name, loaded.config.sources)
            raise click.UsageError(f"there is no source {name}; {hint}")
    from pg_ingest.doctor.examine import examine

    findings: list[Finding] = []
    for finding in examine(loaded.config, sources or tuple(loaded.config.sources)):
        findings.append(finding)
        if not as_json:
            print_finding(finding)
    counts = Counter(finding.verdict for finding in findings)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], "counts": counts})
    else:
        parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
        click.echo(f"\n{', '.join(parts)}")
    context.exit(1 if counts[Verdict.FAILED] else 0)


def print_finding(finding: Finding) -> None:
    """One line, and detail and hint below it where a person must act."""
    mark, colour = _MARKS[finding.verdict]
    click.echo(f"{click.style(mark, fg=colour)} {finding.subject}  {finding.test}: {finding.fact}")
    if finding.verdict in (Verdict.FAILED, Verdict.WARNING):
        for name, text in (("detail", finding.detail), ("hint", finding.hint)):
            if text:
                click.echo(f"    {name}: {text}")
