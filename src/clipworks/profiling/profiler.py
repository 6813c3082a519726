"""The profiler: opens what was asked for, makes inputs, measures, checks parity, and records it all."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipworks import runtimes, scoring, store
from clipworks.bundle import card_hash
from clipworks.environment import count_cores, describe_environment, measure_peak_memory
from clipworks.errors import UsageError
from clipworks.profiling import inputs
from clipworks.profiling.clock import Clock, MonotonicClock
from clipworks.profiling.load import Call
from clipworks.profiling.measurement import Report, check_load, measure
from clipworks.profiling.records import Cold, Load, Parity, Profile, Run, Target
from clipworks.profiling.servers import Pipeline, call_encoder
from clipworks.runtimes import Batch, Encoder
from clipworks.tokens import open_tokenizer

_ROLES: dict[Target, runtimes.Role] = {"image": "image", "text": "text", "pipeline": "image"}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What to profile.

    Attributes:
        target: ``image`` or ``text`` for one encoder, ``pipeline`` for files to scores.
        model: known name, hub id or folder.
        runtime: name or ``auto``.
        devices: names or places in the runtime's list; every one gets ``instances`` encoders.
        precision: name or ``auto``.
        threads: CPU threads of each instance; None shares the cores out among the instances.
        batch_size: pictures or texts in one request.
        instances: compiled encoders for each device.
        staged: whether batches wait where the engine wants them (``--input device``).
        image_size: checked against the tower; None takes the tower's.
        texts: file of prompts, or None for the built-in ones.
        images: folder of pictures, or None for views of the built-in ones.
        offline: never ask a model hub.
    """

    target: Target
    model: str = "starter"
    runtime: str = runtimes.AUTO
    devices: tuple[str, ...] = (runtimes.AUTO,)
    precision: str = runtimes.AUTO
    threads: int | None = None
    batch_size: int = 1
    instances: int = 1
    staged: bool = False
    image_size: int | None = None
    texts: Path | None = None
    images: Path | None = None
    offline: bool = False


class Bench:
    """A setup, opened: the encoders are compiled and warm, the inputs lie ready; loads can be measured on it."""

    def __init__(self, setup: Setup, *, seed: int = 0, clock: Clock | None = None) -> None:
        """Open encoders and make inputs.

        Raises:
            UsageError: a batch size or number of instances below 1, an image size that the tower does not take.
            RuntimeUnavailableError: a device or precision that cannot be granted.
        """
        _check_setup(setup)
        self.setup = setup
        self.seed = seed
        self._clock = clock or MonotonicClock()
        self.bundle = store.open_bundle(setup.model, offline=setup.offline)
        size = self.bundle.card.image.size
        if setup.image_size not in (None, size):
            raise UsageError(f"--image-size is {setup.image_size}; allowed: {size}, which is what the tower takes")
        self.threads = setup.threads or _share_threads(setup)
        self._tokenizer = open_tokenizer(self.bundle.tokenizer, self.bundle.card.text)
        self._pictures = inputs.make_image_pool(self.bundle.card.image, setup.images, seed)
        self._prompts = inputs.read_prompts(setup.texts)
        self._batches = self._make_batches()
        self.encoders: list[Encoder] = []
        self.cold = self._open_encoders()
        self._pipeline = self._make_pipeline() if setup.target == "pipeline" else None

    def measure(
        self, load: Load, *, report: Report | None = None, keep_samples: bool = False, repeats: int = 1
    ) -> Profile:
        """Measure one load, ``repeats`` times, and record it with everything that it depends on."""
        if repeats < 1:
            raise UsageError(f"--repeats is {repeats}; allowed: 1 or more")
        check_load(load)
        if self._pipeline is not None:
            self._pipeline.clear()
        runs: list[Run] = []
        for _ in range(repeats):
            runs.append(measure(self._calls(), load, clock=self._clock, report=report, keep_samples=keep_samples))
            if runs[-1].stop == "interrupted":
                break
        first = self.encoders[0]
        return Profile(
            target=self.setup.target,
            model=self.bundle.card.name,
            card_sha256=card_hash(self.bundle.card),
            runtime=first.runtime,
            devices=tuple(encoder.device for encoder in self.encoders[:: self.setup.instances]),
            precision=first.precision,
            threads=self.threads,
            batch_size=self.setup.batch_size,
            instances=self.setup.instances,
            input="device" if self.setup.staged else "host",
            inputs=self._describe_inputs(),
            load=load,
            cold=self.cold,
            runs=tuple(runs),
            stages=self._pipeline.summarise() if self._pipeline else (),
            peak_memory_mib=measure_peak_memory(),
            partial=runs[-1].stop == "interrupted",
            environment=describe_environment(),
            measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def check_parity(self) -> Parity:
        """Compare this configuration's embeddings with those in f32 on the same inputs.

        The reference is the same runtime in f32, or ONNX Runtime on the CPU where f32 itself is profiled on another
        runtime.
        """
        role = _ROLES[self.setup.target]
        same = self.encoders[0].precision == "f32" and self.encoders[0].runtime != "onnxruntime"
        runtime = "onnxruntime" if same else self.encoders[0].runtime
        reference = runtimes.open_encoder(self.bundle, role, runtime=runtime, precision="f32")
        other = runtimes.open_encoder(
            self.bundle, "text" if role == "image" else "image", runtime=runtime, precision="f32"
        )
        texts = self._tokenizer.pad(self._tokenizer.encode_ragged(self._prompts))
        own, others = (self._pictures, texts) if role == "image" else (texts, self._pictures)
        expected = _embed(reference, own)
        found = _embed(self.encoders[0], own)
        targets = _embed(other, others)
        for encoder in (reference, other):
            encoder.close()
        cosines = np.sum(expected.astype(np.float64) * found, axis=1)
        agreement = np.mean((expected @ targets.T).argmax(axis=1) == (found @ targets.T).argmax(axis=1))
        return Parity(
            reference=f"{runtime} f32",
            count=len(own),
            cosine_min=float(cosines.min()),
            cosine_median=float(np.median(cosines)),
            top1_agreement=float(agreement),
        )

    def close(self) -> None:
        """Free the engines' memory."""
        for encoder in self.encoders:
            encoder.close()

    def _make_batches(self) -> Sequence[Batch]:
        if self.setup.target == "text":
            return inputs.make_text_batches(self._tokenizer, self._prompts, self.setup.batch_size, self.seed)
        return inputs.make_image_batches(self._pictures, self.setup.batch_size, self.seed)

    def _open_encoders(self) -> Cold:
        cold: Cold | None = None
        for device in self.setup.devices:
            for _ in range(self.setup.instances):
                start = time.perf_counter_ns()
                encoder = runtimes.open_encoder(
                    self.bundle,
                    _ROLES[self.setup.target],
                    runtime=self.setup.runtime,
                    device=device,
                    precision=self.setup.precision,
                    threads=self.threads,
                )
                opened = time.perf_counter_ns()
                self.encoders.append(encoder)
                encoder(self._batches[0])
                called = time.perf_counter_ns()
                cold = cold or Cold(load_ms=(opened - start) / 1e6, first_call_us=(called - opened) / 1e3)
        assert cold is not None  # at least one device and one instance were checked
        return cold

    def _make_pipeline(self) -> Pipeline:
        files: Sequence[Path | bytes] = (
            inputs.list_files(self.setup.images) if self.setup.images else inputs.built_in_pictures()
        )
        tower = runtimes.open_encoder(self.bundle, "text", runtime=self.setup.runtime)
        head = _embed(tower, self._tokenizer.encode(self._prompts))
        tower.close()
        return Pipeline(self.bundle.card, files, head, batch_size=self.setup.batch_size)

    def _calls(self) -> list[Call]:
        if self._pipeline is not None:
            return [self._pipeline.call(encoder, self._clock.now) for encoder in self.encoders]
        return [call_encoder(encoder, self._batches, staged=self.setup.staged) for encoder in self.encoders]

    def _describe_inputs(self) -> str:
        if self.setup.target == "text":
            where = str(self.setup.texts) if self.setup.texts else "built-in"
            lengths = [batch.shape[1] for batch in self._batches]
            return f"{len(self._prompts)} {where} prompts, batches {min(lengths)} to {max(lengths)} tokens long"
        where = str(self.setup.images) if self.setup.images else "built-in"
        return f"{len(self._pictures)} pictures ({where})"


def profile(
    setup: Setup,
    load: Load,
    *,
    report: Report | None = None,
    keep_samples: bool = False,
    repeats: int = 1,
    check: bool = False,
) -> Profile:
    """Open a setup, measure one load on it, and close it.

    Args:
        setup: what to profile.
        load: how requests are sent and how long.
        report: told of the progress.
        keep_samples: keep every request's times.
        repeats: how often to measure, at least 1.
        check: compare the embeddings with those in f32.

    Raises:
        UsageError: an impossible combination; the message names the option and what is allowed.
        RuntimeUnavailableError: what cannot be granted here.
    """
    check_load(load)
    bench = Bench(setup, seed=load.seed)
    try:
        result = bench.measure(load, report=report, keep_samples=keep_samples, repeats=repeats)
        return dataclasses.replace(result, parity=bench.check_parity()) if check else result
    finally:
        bench.close()


def _check_setup(setup: Setup) -> None:
    for name, value in (("batch-size", setup.batch_size), ("instances", setup.instances)):
        if value < 1:
            raise UsageError(f"--{name} is {value}; allowed: 1 or more")
    if not setup.devices:
        raise UsageError("--device names no device; at least one is needed")
    if setup.target == "pipeline" and setup.staged:
        raise UsageError("--input device does not go with pipeline, which starts at files; allowed: host")


def _share_threads(setup: Setup) -> int | None:
    """Several instances on one CPU share its cores; one instance is left to the engine's own choice."""
    return max(1, count_cores() // setup.instances) if setup.instances > 1 else None


def _embed(encoder: Encoder, batch: Batch) -> scoring.Floats:
    return scoring.normalise(np.concatenate([encoder(batch[start : start + 16]) for start in range(0, len(batch), 16)]))
