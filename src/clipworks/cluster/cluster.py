"""The cluster: joining one or starting one, what it has, and whether a run fits."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from clipworks.cluster.failures import INSTALL, explain_errors, first_line
from clipworks.datasets.listing import DataSet
from clipworks.datasets.locations import find_kind
from clipworks.datasets.sources import Archives
from clipworks.errors import ClipworksError, ClusterError, RuntimeUnavailableError, UsageError
from clipworks.processor import count_cores
from clipworks.urls import is_url

LOCAL = "local"
"""The address that starts a Ray on this machine, as Ray itself calls it."""
# Bytes of the object store of a Ray that is started here: room for what is between the stages, not for the data set.
_STORE = 512 << 20
# Decoded blocks that must fit into a node's object store at once, for the stages to overlap at all.
_BLOCKS = 8
_CONNECT_S = 5.0
_GPUS = ("cuda", "gpu")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a Ray cluster has."""

    nodes: int  # how many are alive
    cpus: int  # CPUs of all of them
    gpus: int  # GPUs of all of them
    store: int  # bytes of the smallest object store among the nodes
    dashboard: str | None  # where Ray shows what it does, or None


@dataclass(frozen=True, kw_only=True)
class EncoderPool:
    """The encoders that a run asks for."""

    size: int  # how many
    cpus: int  # CPUs that each one keeps from other work
    gpus: int  # GPUs of each one


def require_ray() -> None:
    """Raise RuntimeUnavailableError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        raise RuntimeUnavailableError("--ray needs the package ray, which is not installed", hint=INSTALL)


@contextlib.contextmanager
def join_cluster(address: str, *, encoders: int | None, threads: int | None) -> Iterator[Cluster]:
    """Join a Ray cluster, or start a Ray on this machine that ends with the run.

    ``address`` is `LOCAL` to start one, for so many encoders of so many threads; ``auto`` for the cluster that this
    machine is a node of, or its ``host:port``.

    Raises:
        UsageError: no cluster there.
        ClusterError: Ray cannot start.
    """
    require_ray()
    # Ray reports its use to its makers unless told not to; that is for the user to choose.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # warnings for those who develop on Ray
    # Ray gives way to all else on a machine, and an encoder would hardly go before the decoders that stand back for it.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    where: dict[str, Any] = {"address": address}
    if address == LOCAL:
        os.environ.setdefault("RAY_enable_autoscaler_v2", "1")  # the older one takes a second to end
        # Encoders come on top of a decoding task for each core, which stand back for them; see `decoder_process`.
        cpus = count_cores() + (encoders or 1) * min(threads or 1, count_cores())
        where |= {"num_cpus": cpus, "object_store_memory": _STORE}
    else:
        _check_address(address)
    with contextlib.ExitStack() as stack:
        try:
            with _silence_stderr():  # what goes wrong is raised as well
                context = ray.init(**where, logging_level=logging.ERROR, log_to_driver=False, configure_logging=True)
                stack.callback(ray.shutdown)
        except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
            said = first_line(error)
            if address == LOCAL:
                raise ClusterError(f"Ray cannot start on this machine: {said}") from None
            raise UsageError(f"no Ray cluster that this machine is a node of is at {address}: {said}") from None
        yield _describe_cluster(context.dashboard_url)


def plan_pool(cluster: Cluster, *, encoders: int | None, device: str, threads: int | None) -> EncoderPool:
    """Say how many encoders to ask for, and what each takes; raises UsageError for more than there is room for."""
    gpu = device.startswith(_GPUS)
    if gpu and not cluster.gpus:
        raise UsageError(f"the device {device} was asked for, and the cluster has no GPU", hint="--device cpu")
    size = encoders or (cluster.gpus if gpu else cluster.nodes)
    if gpu:
        if size > cluster.gpus:
            raise UsageError(f"{size} encoders want a GPU each; the cluster has {cluster.gpus}")
        return EncoderPool(size=size, cpus=0, gpus=1)
    room = cluster.cpus - 1
    if size > room:
        raise UsageError(
            f"{size} encoders do not fit: the cluster has {cluster.cpus} CPUs, and one of them must decode; "
            f"allowed: --encoders up to {room}"
        )
    return EncoderPool(size=size, cpus=max(1, min(threads or 1, room // size)), gpus=0)


def check_store(cluster: Cluster, batch_size: int, image_size: int) -> None:
    """Raise UsageError where the object store has no room for the blocks between the stages."""
    block = batch_size * image_size**2 * 3
    if block * _BLOCKS > cluster.store:
        raise UsageError(
            f"there is no room in the object store: {_BLOCKS} batches of {batch_size} images take "
            f"{block * _BLOCKS >> 20:,} MiB, and the smallest store of the cluster has {cluster.store >> 20:,} MiB; "
            f"allowed here: --batch-size up to {cluster.store // _BLOCKS * batch_size // block}"
        )


def ask_nodes(question: Callable[..., Any], *values: Any) -> dict[str, Any]:
    """Call a function on every node that is alive; return the answers by the nodes' addresses."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    asked = {
        node["NodeManagerAddress"] + ":" + str(node["NodeManagerPort"]): ray.remote(num_cpus=0)(question)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(*values)
        for node in nodes
    }
    with explain_errors():
        return dict(zip(asked, ray.get(list(asked.values())), strict=True))


def check_visible(source: DataSet | Archives, base: str) -> None:
    """Insist that every node sees what the driver sees of a source; raises UsageError that names one that does not."""
    first = source.files[0] if isinstance(source, Archives) else source[0].file
    # A list's first image may be missing: then no node will see it, and that is this image's error.
    place = first if is_url(first) else os.path.join(base, first)  # noqa: PTH118
    folder = place.rpartition("/")[0] or "/"
    for node, there in ask_nodes(see_places, place, folder).items():
        for name, mine, yours in zip((place, folder), see_places(place, folder), there, strict=True):
            if mine is not None and yours != mine:
                raise UsageError(
                    f"the node {node} cannot see {name}: it is {yours or 'not reachable'} there and {mine} here",
                    hint="give the images on a file system that all nodes share, or in an object store",
                )


def see_places(*places: str) -> list[str | None]:
    """What each place is as this machine sees it, ``file``, ``folder``, ``missing``, or None where nobody can tell."""
    found: list[str | None] = []
    for place in places:
        try:
            found.append(find_kind(place))
        except ClipworksError:
            found.append(None)
    return found


@contextlib.contextmanager
def _silence_stderr() -> Iterator[None]:
    """Send what Ray's own parts write to standard error, past Python, nowhere."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_address(address: str) -> None:
    """Ask whether anyone listens, as Ray itself would be asked for a minute and end the process."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--ray is {address!r}; allowed: local, auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UsageError(
            f"no Ray cluster is at {address}: {error.strerror or error}", hint="ray start --head starts one"
        ) from None


def _describe_cluster(dashboard: str | None) -> Cluster:
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    stores = [int(node["Resources"]["object_store_memory"]) for node in nodes if node["Resources"].get("CPU")]
    return Cluster(
        nodes=sum(bool(node["Resources"].get("CPU")) for node in nodes),
        cpus=int(total.get("CPU", 0)),
        gpus=int(total.get("GPU", 0)),
        store=min(stores, default=0),
        dashboard=f"http://{dashboard}" if dashboard else None,
    )
