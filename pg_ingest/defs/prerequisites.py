"""The doctor in Dagster: the job `check_<source>`, and an asset check `prerequisites` of each table.

Dagster adds the checks of an asset to a run that materialises it. That would look at the whole source, and
measure the line, with every sync; so our jobs leave these checks out, and in any other run that materialises
something the step does nothing.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from pg_ingest.config.selection import Replication
from pg_ingest.defs.assets import SOURCE_TAG, plain_name
from pg_ingest.defs.log_names import change_log_key, is_logged
from pg_ingest.defs.route import Route
from pg_ingest.doctor.finding import Finding, Verdict
from pg_ingest.doctor.report import Outcome, markdown, of_source, of_table

PREREQUISITES = "prerequisites"


def check_job_name(source: str) -> str:
    """Name of the job that checks a source."""
    return f"check_{source}"


def prerequisite_keys(replications: Sequence[Replication]) -> list[dg.AssetCheckKey]:
    """The checks of these tables, and of the change log of those that are followed by the log."""
    assets = [dg.AssetKey(list(each.asset_key)) for each in replications]
    logs = {change_log_key(each.source) for each in replications if is_logged(each)}
    return [dg.AssetCheckKey(key, PREREQUISITES) for key in (*logs, *assets)]


def prerequisite_checks(
    route: Route, replications: Sequence[Replication]
) -> dg.AssetChecksDefinition:
    """One step that looks at everything once and tells each table what concerns it."""
    tables = {dg.AssetKey(list(each.asset_key)): each for each in replications}
    specs = [_spec(key) for key in prerequisite_keys(replications)]
    names = [plain_name(spec.asset_key.path) for spec in specs]

    @dg.op(
        name=f"{route.source}__{PREREQUISITES}",
        ins={name: dg.In(dg.Nothing) for name in names},
        out={f"{name}_{PREREQUISITES}": dg.Out(is_required=False) for name in names},
        tags={SOURCE_TAG: route.source},
    )
    def look(context: dg.OpExecutionContext) -> Any:
        if context.job_def.asset_layer.selected_asset_keys:
            context.log.info(f"not with a sync: run the job {check_job_name(route.source)}")
            return
        findings = _examine(context, route)
        general = of_source(findings, replications)
        for key in context.selected_asset_check_keys:
            table = tables.get(key.asset_key)
            yield _result(route, key, general, None if table is None else of_table(findings, table))

    # not @dg.multi_asset_check: it makes names of outputs from those of tables, which may be unusual
    made: dg.AssetChecksDefinition = dg.AssetChecksDefinition.create(
        keys_by_input_name=dict(zip(names, (spec.asset_key for spec in specs), strict=True)),
        node_def=look,
        check_specs_by_output_name={
            f"{name}_{PREREQUISITES}": spec for name, spec in zip(names, specs, strict=True)
        },
        can_subset=True,
    )
    return made


def _spec(key: dg.AssetCheckKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        key.name,
        asset=key.asset_key,
        description="Everything that a sync needs: the way, rights, the server's settings, the table itself.",
    )


def _examine(context: dg.OpExecutionContext, route: Route) -> list[Finding]:
    from pg_ingest.doctor.examine import examine

    findings = list(examine(route.config, [route.source]))
    context.log.info(route.redact(markdown(findings)))
    for finding in findings:
        if finding.verdict in (Verdict.FAILED, Verdict.WARNING):
            text = f"{finding.subject} {finding.test}: {finding.fact}; {finding.hint}"
            context.log.warning(route.redact(text))
    return findings


def _result(
    route: Route, key: dg.AssetCheckKey, general: Outcome, own: Outcome | None
) -> dg.AssetCheckResult:
    """A table that could not be looked at fails with its source; else only its own findings count."""
    judged = general if own is None or own.verdict is Verdict.SKIPPED else own
    metadata: dict[str, Any] = {"pg_ingest/verdict": judged.verdict.value}
    if own is not None and own.findings:
        metadata["pg_ingest/findings"] = _text(route, own.findings)
    told = general.findings if own is None else general.unfit
    if told:
        metadata["pg_ingest/source"] = _text(route, told)
    return dg.AssetCheckResult(
        passed=judged.verdict is Verdict.PASSED,
        severity=(
            dg.AssetCheckSeverity.WARN
            if judged.verdict is Verdict.WARNING
            else dg.AssetCheckSeverity.ERROR
        ),
        asset_key=key.asset_key,
        check_name=key.name,
        metadata=metadata,
    )


def _text(route: Route, findings: Sequence[Finding]) -> dg.MetadataValue:
    return dg.MetadataValue.md(route.redact(markdown(findings)))


def check_job(route: Route, replications: Sequence[Replication]) -> Any:
    """The job `check_<source>`."""
    return dg.define_asset_job(
        check_job_name(route.source),
        selection=dg.AssetSelection.checks(*prerequisite_keys(replications)),
        description=f"Tests everything that replicating {route.source} needs; changes nothing.",
        tags={SOURCE_TAG: route.source},
    )
