"""Runs whose process died."""

from __future__ import annotations

import os
import subprocess
import sys

import dagster as dg
import pytest

from pg_ingest.defs.processes import PROCESS_TAG, end_dead_runs, is_gone, this_process


@dg.op
def nothing() -> None:
    """Does nothing."""


@dg.job
def some_job() -> None:
    nothing()


def started_run(instance: dg.DagsterInstance, process: str | None) -> str:
    tags = {} if process is None else {PROCESS_TAG: process}
    run = instance.create_run_for_job(some_job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.fixture
def ended_process() -> str:
    """The name of a process that has ended."""
    script = "from pg_ingest.defs.processes import this_process; print(this_process())"
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_run_of_an_ended_process_is_failed(
    instance: dg.DagsterInstance, ended_process: str
) -> None:
    dead = started_run(instance, ended_process)
    assert end_dead_runs(instance) == [dead]
    assert status(instance, dead) is dg.DagsterRunStatus.FAILURE
    assert end_dead_runs(instance) == []


@pytest.mark.parametrize("process", [None, "elsewhere/1/1", "nonsense"])
def test_a_run_nobody_can_judge_is_left_alone(
    instance: dg.DagsterInstance, process: str | None
) -> None:
    run_id = started_run(instance, process)
    assert end_dead_runs(instance) == []
    assert status(instance, run_id) is dg.DagsterRunStatus.STARTED


def test_a_living_process_keeps_its_run(instance: dg.DagsterInstance) -> None:
    run_id = started_run(instance, this_process())
    assert end_dead_runs(instance) == []
    assert status(instance, run_id) is dg.DagsterRunStatus.STARTED


def test_a_later_process_with_the_same_number_is_another() -> None:
    host, pid, started = this_process().split("/")
    assert int(pid) == os.getpid()
    assert not is_gone(f"{host}/{pid}/{started}")
    assert is_gone(f"{host}/{pid}/{int(started) - 1}")


def test_the_slot_of_a_dead_run_is_free_again(ended_process: str) -> None:
    with dg.instance_for_test() as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("pool", 1)
        dead = started_run(instance, ended_process)
        storage.claim_concurrency_slot("pool", dead, "step")
        assert storage.get_concurrency_info("pool").active_slot_count == 1
        end_dead_runs(instance)
        assert storage.get_concurrency_info("pool").active_slot_count == 0
