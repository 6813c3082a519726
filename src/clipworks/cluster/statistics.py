"""Statistics of a run, as Ray itself keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class StageStatistics:
    """What Ray says of one of its stages."""

    name: str  # Ray's name for it
    tasks_running: int = 0  # tasks under way
    tasks_finished: int = 0  # tasks done
    tasks_failed: int = 0  # tasks that failed
    rows: int = 0  # rows that came out
    bytes: int = 0  # bytes that came out
    seconds: float = 0.0  # time in which tasks made those rows, of all of them together


@dataclass(kw_only=True)
class Statistics:
    """A run as it was a moment ago."""

    stages: list[StageStatistics] = field(default_factory=list)  # first to last
    store_peak: int = 0  # most bytes that all of them held in the object store at once


def make_callback(statistics: Statistics) -> type[Any]:
    """A callback class for Ray that brings statistics up to date at each of its steps."""
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class StatisticsCallback(ExecutionCallback):  # type: ignore[misc]  # Ray's classes are Any here
        def on_execution_step(self, executor: Any) -> None:
            operators = list(executor._topology or ())  # noqa: SLF001  # nothing public tells it while it runs
            statistics.stages = [_describe_stage(operator.name, operator.metrics) for operator in operators]
            held = sum(operator.metrics.obj_store_mem_used for operator in operators)
            statistics.store_peak = max(statistics.store_peak, held)

        after_execution_succeeds = on_execution_step

    return StatisticsCallback


def _describe_stage(name: str, metrics: Any) -> StageStatistics:
    return StageStatistics(
        name=name,
        tasks_running=metrics.num_tasks_running,
        tasks_finished=metrics.num_tasks_finished,
        tasks_failed=metrics.num_tasks_failed,
        rows=metrics.row_outputs_taken,
        bytes=metrics.bytes_outputs_taken,
        seconds=metrics.block_generation_time,
    )
