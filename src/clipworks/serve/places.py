"""Places in a queue: counted when a request is let in, free again when its items leave."""

from __future__ import annotations

from collections.abc import Mapping

from clipworks.runtimes.protocol import Role


class Places:
    """The places in the queue that one request has taken."""

    def __init__(self, held: dict[Role, int], counts: Mapping[Role, int]) -> None:
        self._held, self._own = held, dict(counts)
        for role, count in counts.items():
            held[role] += count

    def leave(self, role: Role, count: int = 1) -> None:
        """Give places free, as many as are left at most."""
        count = min(count, self._own.get(role, 0))
        if not count:
            return
        self._own[role] -= count
        self._held[role] -= count

    def leave_all(self) -> None:
        """Give all of them free."""
        for role in self._own:
            self.leave(role, self._own[role])
