"""Encoding: an actor that loads the model once and turns decoded blocks into rows of a shard."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipworks.cluster.cores import keep_cores
from clipworks.cluster.decoding import unpack_block
from clipworks.datasets.ground_truth import look_up_truths
from clipworks.errors import ClipworksError, UsageError
from clipworks.loading import load
from clipworks.model import Model
from clipworks.options import DEFAULT_IMAGE_OPTIONS, DEFAULT_RUNTIME_OPTIONS, ImageOptions, RuntimeOptions
from clipworks.pipeline import encode_block
from clipworks.results.manifest import describe_model
from clipworks.results.parquet import tabulate_embeddings, tabulate_records
from clipworks.scoring import compare_on_one_thread
from clipworks.tasks.classify import classify_block
from clipworks.tasks.embed import list_embeddings
from clipworks.tasks.zero_shot import build_classifier, find_classifier, fold_classifier, keep_classifier

if TYPE_CHECKING:
    from clipworks.bundle.card import ImageSpec
    from clipworks.runtimes import Role
    from clipworks.scoring import Floats
    from clipworks.tasks.classify import Classes


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What `clipworks.loading.load` is asked for, on whichever machine an encoder stands."""

    model: str
    options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS
    images: ImageOptions = DEFAULT_IMAGE_OPTIONS
    offline: bool = False

    def load(self, tower: Role) -> Model:
        """Load one tower."""
        return load(self.model, self.options, self.images, offline=self.offline, towers=(tower,))


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What the first one to load the model found, where encoders will."""

    facts: dict[str, Any]  # see `clipworks.results.manifest.describe_model`
    why: str | None  # what ``auto`` went by, or None
    spec: ImageSpec  # the image that the tower takes
    dim: int  # numbers in an embedding
    classifier: Floats | None  # float32 unit rows ``[classes, dim]``, or None without classes


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What every encoder of a run needs to know."""

    loading: Loading  # the model
    source: str  # the data set's name, for messages
    classes: Classes | None  # None for embeddings
    found: Examination  # what all encoders must have alike
    # cores that an encoder keeps from the others of its machine; None to leave that to the runtime
    cores: int | None = None


def examine(loading: Loading, classes: Classes | None) -> Examination:
    """Load the model where encoders will, and say what is in use there; makes the classifier if one is wanted."""
    with loading.load("image") as model:
        facts, why, card = describe_model(model), model.why, model.card
        classifier = None if classes is None else _get_classifier(loading, model, classes)
    return Examination(facts=facts, why=why, spec=card.image, dim=card.dim, classifier=classifier)


def _get_classifier(loading: Loading, model: Model, classes: Classes) -> Floats:
    labels, templates, truncate = classes.labels, classes.templates, classes.truncate
    classifier = find_classifier(model, labels, templates, truncate=truncate)
    if classifier is None:
        with loading.load("text") as tower:
            classifier = build_classifier(tower, labels, templates, truncate=truncate)
        keep_classifier(model, labels, templates, classifier, truncate=truncate)
    return classifier


class EncodingActor:
    """A model with its image tower, as an actor of Ray."""

    def __init__(self, job: Encoding) -> None:
        """Load the model, or keep why it cannot be: what ends an actor's start is told by Ray in its own way."""
        self._job = job
        self._failure: ClipworksError | None = None
        if job.cores is not None:
            keep_cores(job.cores)
        try:
            self._model = job.loading.load("image")
            check_facts(job.found.facts, describe_model(self._model), socket.gethostname())
        except ClipworksError as error:
            self._failure = error
            return
        if job.classes is not None:
            assert job.found.classifier is not None  # made together with the classes
            self._classifier = fold_classifier(job.found.classifier)
            self._truths = look_up_truths(job.source, job.classes.labels)

    def __call__(self, table: Any) -> Any:
        """Encode one block, as `clipworks.cluster.decoding.pack_block` makes it, to a ``pyarrow.Table``.

        It has one row for each image: the columns of a shard, then ``shard`` and ``size``.
        """
        if self._failure is not None:
            raise self._failure
        import pyarrow as pa

        dim, classes = self._job.found.dim, self._job.classes
        shard, start, size, samples, prepared = unpack_block(table, self._job.found.spec.size)
        block = encode_block(start, samples, prepared, self._model.embed_pixels)
        if classes is None:
            rows = tabulate_embeddings(list_embeddings(block, dim), dim)
        else:
            rule = self._model.card.score
            with compare_on_one_thread():  # as on one machine: the threads can change a product's last digit
                rows = tabulate_records(classify_block(block, self._truths, classes, self._classifier, rule))
        rows = rows.append_column("shard", pa.array([shard] * len(samples), pa.int64()))
        return rows.append_column("size", pa.array([size] * len(samples), pa.int64()))


def check_facts(run: dict[str, Any], here: dict[str, Any], node: str) -> None:
    """Raise UsageError for a node that has not what the first has: another processor or version makes other rows."""
    run, here = (json.loads(json.dumps(values)) for values in (run, here))
    names = [name for name in run if run[name] != here.get(name)]
    if names:
        said = "; ".join(f"{name} is {_show(here.get(name))} and not {_show(run[name])}" for name in names)
        raise UsageError(
            f"the node {node} would make other rows than the rest of this run: {said}",
            hint="give the run nodes of one kind, with the same packages",
        )


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
