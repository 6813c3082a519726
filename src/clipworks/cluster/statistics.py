"""Statistics of a run, as Ray itself keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Statistics:
    """A run as it was a moment ago."""

    running: tuple[int, ...] = ()  # tasks under way, of each of Ray's stages from first to last
    # how long the tasks of each stage took, of all of them together, by Ray's name for it
    seconds: dict[str, float] = field(default_factory=dict)
    store_peak: int = 0  # most bytes that all of them held in the object store at once


def make_callback(statistics: Statistics) -> type[Any]:
    """A callback class for Ray that brings statistics up to date at each of its steps."""
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    def take(executor: Any) -> None:
        # Nothing public tells it while it runs.
        stages = {operator.name: operator.metrics for operator in executor._topology or ()}  # noqa: SLF001
        statistics.running = tuple(stage.num_tasks_running for stage in stages.values())
        statistics.seconds = {name: stage.block_generation_time for name, stage in stages.items()}
        held = sum(stage.obj_store_mem_used for stage in stages.values())
        statistics.store_peak = max(statistics.store_peak, held)

    class StatisticsCallback(ExecutionCallback):  # type: ignore[misc]  # Ray's classes are Any here
        def on_execution_step(self, executor: Any) -> None:
            take(executor)

        def after_execution_succeeds(self, executor: Any) -> None:
            take(executor)

    return StatisticsCallback
