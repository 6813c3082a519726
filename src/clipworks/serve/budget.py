"""Memory: how much the processes of several models may take together."""

from __future__ import annotations

from clipworks.errors import UsageError


class MemoryBudget:
    """The most memory that the processes of all models may take together."""

    def __init__(self, gib: float | None = None) -> None:
        """Take no more than ``gib``; None for no bound. Raises UsageError for a bound that is none."""
        if gib is not None and not 0 < gib < float("inf"):
            raise UsageError(f"--memory is {gib:g}; allowed: above 0")
        self._gib = gib
        self._taken: dict[str, float] = {}

    def take(self, name: str, mib: float | None) -> None:
        """Count a model's process; raises UsageError where that is more than there is."""
        self._taken[name] = (mib or 0.0) / 1024
        total = sum(self._taken.values())
        if self._gib is not None and total > self._gib:
            each = ", ".join(f"{one} {gib:.2f}" for one, gib in self._taken.items())
            raise UsageError(
                f"the models take {total:.2f} GiB ({each}); allowed: {self._gib:g} (--memory)",
                hint="fewer models, a smaller one, or more memory",
            )
