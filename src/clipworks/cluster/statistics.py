"""Statistics of a run, as Ray itself keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class StageStatistics:
    """What Ray says of one of its stages.

    Attributes:
        name: Ray's name for it.
        tasks_running: tasks under way.
        tasks_finished: tasks done.
        tasks_failed: tasks that failed.
        rows: rows that came out.
        bytes: bytes that came out.
        seconds: time in which tasks made those rows, of all of them together.
    """

    name: str
    tasks_running: int = 0
    tasks_finished: int = 0
    tasks_failed: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Statistics:
    """The stages in order, as they were a moment ago.

    Attributes:
        stages: first to last.
        store_peak: most bytes that all of them held in the object store at once.
    """

    stages: list[StageStatistics] = field(default_factory=list)
    store_peak: int = 0


def make_callback(statistics: Statistics) -> type[Any]:
    """A callback class for Ray that brings statistics up to date at each of its steps."""
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class StatisticsCallback(ExecutionCallback):  # type: ignore[misc]  # Ray's classes are Any here
        def on_execution_step(self, executor: Any) -> None:
            take(executor)

        def after_execution_succeeds(self, executor: Any) -> None:
            take(executor)

    def take(executor: Any) -> None:
        stages, held = [], 0
        for operator in executor._topology or ():  # noqa: SLF001  # nothing public tells it while it runs
            metrics = operator.metrics
            held += metrics.obj_store_mem_used
            stages.append(
                StageStatistics(
                    name=operator.name,
                    tasks_running=metrics.num_tasks_running,
                    tasks_finished=metrics.num_tasks_finished,
                    tasks_failed=metrics.num_tasks_failed,
                    rows=metrics.row_outputs_taken,
                    bytes=metrics.bytes_outputs_taken,
                    seconds=metrics.block_generation_time,
                )
            )
        statistics.stages = stages
        statistics.store_peak = max(statistics.store_peak, held)

    return StatisticsCallback
