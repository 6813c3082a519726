"""The head: a Ray on this machine whose parts start side by side.

Ray's own start waits for its dashboard before it starts the part that runs workers, then asks for that part once a
second. It also starts a process that forwards the workers' output and one that adds machines, which are of no use here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from ray._private.node import Node
from ray._private.parameter import RayParams

_WAIT_S = 30.0
_PAUSE_S = 0.02


class Head(Node):  # type: ignore[misc]  # Ray's classes are Any here
    """Ray's services, without a process that is not wanted and without its waiting for one after the other."""

    def start_api_server(self, **options: Any) -> None:
        """Start the dashboard on a thread that goes on as long as Ray: the kernel ends a thread's processes with it."""
        self._served, self._closing = threading.Event(), threading.Event()

        def serve() -> None:
            try:
                super(Head, self).start_api_server(**options)
            finally:
                self._served.set()
            self._closing.wait()

        threading.Thread(target=serve, daemon=True, name="dashboard").start()

    def start_ray_processes(self) -> None:
        """Start the rest, and wait until it can be asked for."""
        super().start_ray_processes()
        end = time.monotonic() + _WAIT_S
        while not self.get_gcs_client().get_all_node_info() and time.monotonic() < end:
            time.sleep(_PAUSE_S)

    def find_dashboard(self) -> str | None:
        """Where the dashboard is, once it is there, or None where it cannot start."""
        self._served.wait()
        address: str | None = self.webui_url
        return address

    def close(self) -> None:
        """End all processes."""
        self._served.wait()
        self.kill_all_processes(check_alive=False, allow_graceful=True)
        self._closing.set()


@contextlib.contextmanager
def start_head(*, cpus: int, store: int) -> Iterator[Head]:
    """Start Ray's services on this machine; they end with the context, or with this process.

    Args:
        cpus: CPUs that Ray may give to work.
        store: bytes of the object store.
    """
    parameters = RayParams(
        num_cpus=cpus,
        object_store_memory=store,
        dashboard_port=None,  # the usual one, or the next that is free
        no_monitor=True,
        include_log_monitor=False,
    )
    head = Head(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True)
    try:
        yield head
    finally:
        head.close()
