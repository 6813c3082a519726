"""Stages: what the workers of Ray do, one stage after another, and what comes of it."""

from __future__ import annotations

import importlib
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clipworks.cluster.decoding import Decoding, decode_pieces
from clipworks.cluster.encoding import Encoding, EncodingActor, Examination, Loading, examine
from clipworks.cluster.failures import explain_errors
from clipworks.cluster.statistics import Statistics, make_callback

if TYPE_CHECKING:
    from clipworks.cluster.cluster import EncoderPool
    from clipworks.cluster.plan import Piece
    from clipworks.tasks.classify import Classes

# Memory of a decoding task: its worker, its decoder process, and an image of many megapixels.
_DECODER_BYTES = 384 << 20


def examine_remotely(loading: Loading, classes: Classes | None, pool: EncoderPool) -> Callable[[], Examination]:
    """Begin to load the model where encoders will be; what is returned waits for what is found."""
    import ray

    task = ray.remote(num_cpus=pool.cpus, num_gpus=pool.gpus)(examine)
    reference = task.remote(loading, classes)

    def wait() -> Examination:
        with explain_errors():
            found: Examination = ray.get(reference)
        return found

    return wait


def import_packages() -> None:
    """Import Ray Data; this module's own imports are here by now."""
    importlib.import_module("ray.data")


def run_pieces(
    pieces: Sequence[Piece],
    decoding: Decoding,
    encoding: Encoding,
    pool: EncoderPool,
    statistics: Statistics,
    *,
    workers: int | None,
) -> Iterator[Any]:
    """Decode and encode pieces on the cluster; ``statistics`` are kept up to date meanwhile.

    Yields:
        Tables of rows as `clipworks.cluster.encoding.EncodingActor` makes them, in any order.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # ours, not one of Ray's around its text
    # One block of ours is one of Ray's: it is passed to an encoder as soon as it is decoded.
    context.target_max_block_size = 1 << 16
    context.target_min_block_size = 1
    context.memory_usage_poll_interval_s = None  # it takes tens of milliseconds of a core in each task, every second
    context.custom_execution_callback_classes = [make_callback(statistics)]
    # What goes wrong is raised as well.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    rows = [{"piece": pickle.dumps(piece, pickle.HIGHEST_PROTOCOL)} for piece in pieces]
    flow = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .map_batches(
            decode_pieces,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"job": decoding},
            num_cpus=1,
            memory=_DECODER_BYTES,  # asked for of this stage alone, it also keeps Ray from making one of the two
            concurrency=workers,
        )
        .map_batches(
            EncodingActor,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(encoding,),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            compute=ray.data.ActorPoolStrategy(size=pool.size, max_tasks_in_flight_per_actor=2),
        )
    )
    with explain_errors():
        yield from flow.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
