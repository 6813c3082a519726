"""Failures of Ray as one clear line each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clipworks.errors import ClipworksError, ClusterError

INSTALL = "pip install 'clipworks[ray]'"


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Turn what Ray raises into one clear line, or into the error of ours that a task raised."""
    import ray.exceptions

    try:
        yield
    except (ray.exceptions.RayError, ray.exceptions.RayTaskError) as error:
        raise _translate(error) from None


def _translate(error: BaseException) -> ClipworksError:
    import ray.exceptions

    chain, here = [error], error
    while (following := getattr(here, "cause", None) or here.__cause__) is not None and following not in chain:
        here = following
        chain.append(here)
    for link in chain:
        if isinstance(link, ClipworksError) and not isinstance(link, ray.exceptions.RayError):
            return link
    full = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)
    if any(isinstance(link, full) for link in chain):
        return ClusterError(
            "there is no room in the object store, nor on the disk that it spills to",
            hint="a smaller --batch-size, fewer --encoders or --workers, or nodes with a larger object store",
        )
    if any(isinstance(link, ModuleNotFoundError) and link.name == "clipworks" for link in chain) or (
        "No module named 'clipworks'" in str(error)
    ):
        return ClusterError("a node of the cluster lacks clipworks", hint=f"{INSTALL} on every node")
    # Ray hangs an empty one of its own behind what happened.
    last = next(link for link in (*reversed(chain), error) if str(link).strip() or link is error)
    return ClusterError(
        f"Ray failed: {type(last).__name__}: {first_line(last)}",
        hint="finished shards are kept: the same command resumes from there",
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
