"""Runs whose process died: found, ended, and their pool slots freed.

A process that is killed cannot say so. Its run stays "started", keeps its slot in the destination's
pool, and everything behind it waits for ever. So each run executed in one process carries a tag that
names the machine, the process and the moment that process started; whoever comes next on the same
machine can tell that it is gone. Runs on other machines are left alone.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import dagster as dg

PROCESS_TAG = "pg_ingest/process"
_ACTIVE = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def this_process() -> str:
    """`host/pid/start`, where `start` tells a process from a later one with the same number."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"


def mark_run(context: dg.AssetExecutionContext) -> None:
    """Tag the run with this process, when all its steps run in it."""
    executor = context.op_execution_context.job_def.executor_def.name
    if "in_process" not in executor or PROCESS_TAG in context.run.tags:
        return
    context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: this_process()})


def is_gone(process: str) -> bool:
    """Whether a process named by `this_process` ended; False for those of other machines."""
    host, _, rest = process.partition("/")
    pid, _, started = rest.partition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    """Clock ticks from boot to the process's start (proc(5), field 22); "" where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]


def end_dead_runs(instance: dg.DagsterInstance, job_name: str | None = None) -> list[str]:
    """Fail the runs whose process is gone and free their pool slots; their ids."""
    ended = []
    for run in instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=_ACTIVE)):
        process = run.tags.get(PROCESS_TAG)
        if process is None or not is_gone(process):
            continue
        instance.report_run_failed(run, f"the process that ran it ({process}) has ended")
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    return ended
