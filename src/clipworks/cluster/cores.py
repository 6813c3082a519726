"""Cores: encoders that stand on one machine compute on cores of their own.

OpenVINO ties the threads of a process to its first cores. Two processes of one thread each would share one core and
leave the other alone, so each encoder narrows its process to cores that no other encoder of this machine has taken.
"""

from __future__ import annotations

import os
import socket
import sys

# Open for as long as this process lives: the mark on each core that it keeps.
_marks: dict[int, socket.socket] = {}


def keep_cores(count: int) -> None:
    """Narrow this process to ``count`` cores that no other encoder keeps, or leave it as it is where too few are free.

    A core is marked by a socket's name, which Linux frees when the process ends, however it ends.
    """
    if sys.platform != "linux":  # elsewhere threads are not tied to cores
        return
    for core in sorted(os.sched_getaffinity(0) - set(_marks)):
        if len(_marks) == count:
            break
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0clipworks encoder on core {core}")
        except OSError:
            mark.close()
        else:
            _marks[core] = mark
    if len(_marks) == count:
        os.sched_setaffinity(0, set(_marks))
    else:
        free_cores()


def free_cores() -> None:
    """Take the marks of this process away; it may keep cores again then."""
    while _marks:
        _marks.popitem()[1].close()
