"""Encoding: an actor that loads the model once and turns decoded blocks into rows of a shard."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipworks.cluster.cores import keep_cores
from clipworks.cluster.decoding import unpack_block
from clipworks.errors import ClipworksError, UsageError
from clipworks.loading import load
from clipworks.model import Model
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions
from clipworks.pipeline import encode_block
from clipworks.results.formats import round_score
from clipworks.results.manifest import describe_model
from clipworks.results.parquet import tabulate_embeddings, tabulate_records
from clipworks.scoring import compare_on_one_thread
from clipworks.tasks.classify import look_up_truths, score_block
from clipworks.tasks.embed import describe_rows, lay_out_rows
from clipworks.tasks.zero_shot import build_head, find_head, fold_head, keep_head

if TYPE_CHECKING:
    from clipworks.bundle.card import ImageInput
    from clipworks.datasets.listing import Sample
    from clipworks.pipeline import Block
    from clipworks.results.records import Record
    from clipworks.scoring import Floats
    from clipworks.text.prompts import Labels


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What `clipworks.model.load` is asked for, on whichever machine an encoder stands."""

    model: str
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    images: ImageOptions = DEFAULT_IMAGE_OPTIONS
    offline: bool = False

    def load(self, tower: str) -> Model:
        """Load one tower."""
        return load(
            self.model,
            runtime=self.runtime,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            offline=self.offline,
            towers=(tower,),  # type: ignore[arg-type]  # one of the two
            **dataclasses.asdict(self.images),
        )


@dataclass(frozen=True, kw_only=True)
class Classes:
    """What classification wants beside the model.

    Attributes:
        labels: the classes.
        templates: those that make the head.
        top: classes kept for each picture, at most all.
    """

    labels: Labels
    templates: tuple[str, ...]
    top: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an encoder's place grants, as the first one to load the model found it.

    Attributes:
        granted: see `clipworks.results.manifest.describe_model`.
        why: what ``auto`` went by, or None.
        spec: the square that the tower takes.
        dim: numbers in an embedding.
        head: float32 unit rows ``[classes, dim]``, or None without classes.
    """

    granted: dict[str, Any]
    why: str | None
    spec: ImageInput
    dim: int
    head: Floats | None


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What every encoder of a run needs to know.

    Attributes:
        loading: the model.
        source: the data set's name, for messages.
        classes: None for embeddings.
        found: what all encoders must be granted alike.
        cores: cores that an encoder keeps from the others of its machine; None to leave that to the runtime.
    """

    loading: Loading
    source: str
    classes: Classes | None
    found: Found
    cores: int | None = None


def examine(loading: Loading, classes: Classes | None) -> Found:
    """Load the model where encoders will, and say what is granted there; makes the text head if one is wanted."""
    with loading.load("image") as model:
        granted, why, card = describe_model(model), model.why, model.card
        head = None if classes is None else find_head(model, classes.labels, classes.templates)
        if classes is not None and head is None:
            with loading.load("text") as tower:
                head = build_head(tower, classes.labels, classes.templates)
            keep_head(model, classes.labels, classes.templates, head)
    return Found(granted=granted, why=why, spec=card.image, dim=card.dim, head=head)


class Encoder:
    """A model with its image tower, as an actor of the engine."""

    def __init__(self, job: Encoding) -> None:
        """Load the model, or keep why it cannot be: what ends an actor's start is told by the engine in its own way."""
        self._job = job
        self._failure: ClipworksError | None = None
        if job.cores is not None:
            keep_cores(job.cores)
        try:
            self._model = job.loading.load("image")
            check_granted(job.found.granted, describe_model(self._model), socket.gethostname())
        except ClipworksError as error:
            self._failure = error
            return
        if job.classes is not None:
            assert job.found.head is not None  # made together with the classes
            self._head = fold_head(job.found.head)
            self._truths = look_up_truths(job.source, job.classes.labels)

    def __call__(self, table: Any) -> Any:
        """Encode one block; ``pyarrow.Table`` in, as `clipworks.cluster.decoding.pack_block` makes it, and out.

        Returns:
            One row for each picture: the columns of a shard, then ``shard`` and ``size``.

        Raises:
            UsageError: what is granted here makes other rows than the run's.
            ClipworksError: the model cannot be loaded here.
        """
        if self._failure is not None:
            raise self._failure
        import pyarrow as pa

        shard, start, size, samples, prepared = unpack_block(table, self._job.found.spec.size)
        block = encode_block(start, samples, prepared, self._model.embed_pixels)
        rows = self._embed(block) if self._job.classes is None else self._classify(block, self._job.classes)
        rows = rows.append_column("shard", pa.array([shard] * len(samples), pa.int64()))
        return rows.append_column("size", pa.array([size] * len(samples), pa.int64()))

    def _embed(self, block: Block[Sample]) -> Any:
        return tabulate_embeddings(list(describe_rows(block)), lay_out_rows(block, self._job.found.dim))

    def _classify(self, block: Block[Sample], classes: Classes) -> Any:
        rule = self._model.card.score
        with compare_on_one_thread():  # as on one machine: the number of threads can change a product's last digit
            records = list(score_block(block, self._truths, classes.labels, self._head, rule, classes.top))
        return tabulate_records([_round(record) for record in records])


def check_granted(run: dict[str, Any], here: dict[str, Any], node: str) -> None:
    """Insist that a node grants what the run's first one did: another processor or version makes other rows.

    Raises:
        UsageError: the message names the node and what differs.
    """
    run, here = (json.loads(json.dumps(values)) for values in (run, here))
    names = [name for name in run if run[name] != here.get(name)]
    if names:
        said = "; ".join(f"{name} is {_show(here.get(name))} and not {_show(run[name])}" for name in names)
        raise UsageError(
            f"the node {node} would make other rows than the rest of this run: {said}",
            hint="give the run nodes of one kind, with the same packages",
        )


def _show(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return str(value)


def _round(record: Record) -> Record:
    top = tuple(dataclasses.replace(item, score=round_score(item.score)) for item in record.top)
    return dataclasses.replace(record, top=top)
