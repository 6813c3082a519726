"""The profiler: opens what was asked for, makes inputs, measures, checks parity, and records it all."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from clipworks import runtimes, scoring, store
from clipworks.bundle.files import card_hash
from clipworks.environment import describe_environment, measure_peak_memory
from clipworks.errors import UsageError
from clipworks.images.resize import Pixels
from clipworks.profiling import inputs
from clipworks.profiling.clock import Clock, MonotonicClock
from clipworks.profiling.load import Call
from clipworks.profiling.measurement import Report, check_load, measure
from clipworks.profiling.parity import compare_with_f32, embed, measure_beside_f32
from clipworks.profiling.profile import Cold, Load, Parity, Profile, Run, Target
from clipworks.profiling.servers import ClassifyingServer, call_encoder
from clipworks.profiling.setup import Setup, check_setup, settle_options
from clipworks.runtimes import Batch, Encoder
from clipworks.text.tokenizers import open_tokenizer

_ROLES: dict[Target, runtimes.Role] = {"image": "image", "text": "text", "pipeline": "image"}


class Bench:
    """A setup, opened: the encoders are compiled and warm, the inputs lie ready; loads can be measured on it."""

    def __init__(self, setup: Setup, *, seed: int = 0, clock: Clock | None = None) -> None:
        # Looked at first: afterwards the machine is busy with this very measurement.
        self._environment = describe_environment()
        self._measured_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.setup = setup
        self.seed = seed
        self._clock = clock or MonotonicClock()
        self.bundle = store.open_bundle(setup.model, offline=setup.offline)
        check_setup(setup, self.bundle.card)
        self._tokenizer = open_tokenizer(self.bundle.tokenizer, self.bundle.card.text)
        self._prompts = inputs.read_prompts(setup.texts, encoding=setup.encoding)
        self._cuts = setup.texts is None  # the built-in prompts are too long for some models
        self._files = (
            inputs.choose_files(setup.images, seed, options=setup.reading) if setup.images is not None else None
        )
        self._batches = self._make_batches()
        self.encoders: list[Encoder] = []
        self._opened = contextlib.ExitStack()
        self.cold = self._open_encoders()
        self._server = self._make_server() if setup.target == "pipeline" else None

    def measure(
        self, load: Load, *, report: Report | None = None, keep_samples: bool = False, repeats: int = 1
    ) -> Profile:
        """Measure one load, ``repeats`` times, and record it with everything that it depends on."""
        if repeats < 1:
            raise UsageError(f"--repeats is {repeats}; allowed: 1 or more")
        check_load(load)
        runs: list[Run] = []
        for _ in range(repeats):
            try:
                # Scores are computed as classify computes them.
                with scoring.compare_on_one_thread() if self._server else contextlib.nullcontext():
                    run = measure(
                        self._calls(),
                        load,
                        clock=self._clock,
                        report=report,
                        keep_samples=keep_samples,
                        summarise_stages=self._server.summarise if self._server else None,
                    )
            except KeyboardInterrupt:
                if not runs:
                    raise
                break  # nothing of this repeat is worth having, but those before it are
            runs.append(run)
            if run.stop == "interrupted":
                break
        first = self.encoders[0]
        return Profile(
            target=self.setup.target,
            model=self.bundle.card.name,
            card_sha256=card_hash(self.bundle.card),
            runtime=first.runtime,
            devices=tuple(encoder.device for encoder in self.encoders[:: self.setup.instances]),
            precision=first.precision,
            why=first.why,
            instruction_set=first.instruction_set,
            threads=first.threads,
            batch_size=self.setup.batch_size,
            instances=self.setup.instances,
            input="device" if self.setup.staged else "host",
            inputs=self._describe_inputs() + (self._server.describe_decoder() if self._server else ""),
            load=load,
            cold=self.cold,
            runs=tuple(runs),
            peak_memory_mib=measure_peak_memory(),
            partial=len(runs) < repeats or runs[-1].stop == "interrupted",
            environment=self._environment,
            measured_at=self._measured_at,
        )

    def warm_up(self, requests: int, tell_warm: Callable[[int], None] | None = None) -> None:
        """Send each instance in turn so many requests, one after another."""
        for instance, call in enumerate(self._calls()):
            for number in range(requests):
                call(number)
            if tell_warm is not None:
                tell_warm(instance)

    def resize(self, batch_size: int) -> None:
        """Make a tower's requests of another size from here on; raises UsageError for one that does not go."""
        setup = dataclasses.replace(self.setup, batch_size=batch_size)
        check_setup(setup, self.bundle.card)
        self.setup = setup
        self._batches = self._make_batches()

    def check_parity(self) -> Parity:
        """Compare this configuration's embeddings with those in f32; see `clipworks.profiling.parity`."""
        role = _ROLES[self.setup.target]
        images = self._pool
        texts = self._tokenizer.encode(self._prompts, truncate=self._cuts)
        own, others = (images, texts) if role == "image" else (texts, images)
        return compare_with_f32(self.bundle, role, self.encoders[0], own, others)

    def measure_beside_f32(self) -> float | None:
        """How many times as fast as f32 this configuration is; see `clipworks.profiling.parity`."""
        encoder = self.encoders[0]
        if encoder.precision == "f32":
            return None
        options = settle_options(self.setup, encoder.device)
        return measure_beside_f32(self.bundle, _ROLES[self.setup.target], encoder, self._batches, options)

    def close(self) -> None:
        """Free the encoders' memory."""
        self._opened.close()

    @cached_property
    def _pool(self) -> Pixels:
        return inputs.make_image_pool(self.bundle.card.image, self._files, self.seed, options=self.setup.reading)

    def _make_batches(self) -> Sequence[Batch]:
        if self.setup.target == "text":
            return inputs.make_text_batches(
                self._tokenizer, self._prompts, self.setup.batch_size, self.seed, truncate=self._cuts
            )
        return inputs.make_image_batches(self._pool, self.setup.batch_size, self.seed)

    def _open_encoders(self) -> Cold:
        begin = time.perf_counter_ns()
        setup = self.setup
        chosen = runtimes.choose_for(self.bundle, settle_options(setup, setup.devices[0]))
        runtimes.import_runtime(chosen.name)
        imported = time.perf_counter_ns()
        cold: Cold | None = None
        for device in self.setup.devices:
            for _ in range(self.setup.instances):
                encoder = self._open_encoder(_ROLES[self.setup.target], device)
                self.encoders.append(encoder)
                self._opened.callback(encoder.close)
                opened = time.perf_counter_ns()
                encoder(self._batches[0])
                called = time.perf_counter_ns()
                cold = cold or Cold(
                    import_ms=(imported - begin) / 1e6,
                    read_ms=encoder.opening.read_ms,
                    compile_ms=encoder.opening.compile_ms,
                    first_call_us=(called - opened) / 1e3,
                )
        assert cold is not None  # at least one device and one instance were checked
        found = sorted({encoder.precision for encoder in self.encoders})
        if len(found) > 1:
            raise UsageError(f"the devices differ in precision ({', '.join(found)}); name one: --precision")
        return cold

    def _open_encoder(self, role: runtimes.Role, device: str) -> Encoder:
        return runtimes.open_encoder(self.bundle, role, settle_options(self.setup, device))

    def _make_server(self) -> ClassifyingServer:
        if self._files is not None:
            files: Sequence[Path] = self._files.paths
        else:  # real files, so that reading them is measured too
            folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="clipworks-")))
            files = [folder / f"{number}.jpg" for number in range(len(inputs.built_in_images()))]
            for path, content in zip(files, inputs.built_in_images(), strict=True):
                path.write_bytes(content)
        tower = self._open_encoder("text", self.setup.devices[0])
        classifier = embed(tower, self._tokenizer.encode(self._prompts, truncate=self._cuts))
        tower.close()
        server = ClassifyingServer(self.setup, self.bundle.card, self.encoders, files, classifier)
        return self._opened.enter_context(contextlib.closing(server))

    def _calls(self) -> list[Call]:
        if self._server:
            return self._server.list_calls(self._clock.now)
        return [call_encoder(encoder, self._batches, staged=self.setup.staged) for encoder in self.encoders]

    def _describe_inputs(self) -> str:
        if self.setup.target == "text":
            where = str(self.setup.texts) if self.setup.texts else "built-in"
            lengths = [batch.shape[1] for batch in self._batches]
            return f"{len(self._prompts)} {where} prompts, batches {min(lengths)} to {max(lengths)} tokens long"
        if self._files is None:
            built_in = f"{len(inputs.built_in_images())} built-in images"
            as_files = f"{built_in}, as files in the system's cache"
            return as_files if self.setup.target == "pipeline" else f"{inputs.POOL} views of {built_in}"
        left_out = f", {self._files.left_out} more could not be decoded" if self._files.left_out else ""
        count = len(self._files.paths)
        return f"{count} image{'' if count == 1 else 's'} of {self._files.source}{left_out}"


def profile(
    setup: Setup,
    load: Load,
    *,
    report: Report | None = None,
    keep_samples: bool = False,
    repeats: int = 1,
    check: bool = False,
    warmup_requests: int = 0,
    tell_warm: Callable[[int], None] | None = None,
) -> Profile:
    """Open a setup, measure one load on it, and close it; raises as `Bench` and `check_load`."""
    check_load(load)
    with contextlib.closing(Bench(setup, seed=load.seed)) as bench:
        # Before the measurement: a reference that cannot be opened must not cost a finished one.
        parity = bench.check_parity() if check else None
        if tell_warm is not None or warmup_requests:
            bench.warm_up(warmup_requests, tell_warm)
        result = bench.measure(load, report=report, keep_samples=keep_samples, repeats=repeats)
        # Behind the measurement: a second model in memory is none of its business.
        ratio = None if result.partial else bench.measure_beside_f32()
        return dataclasses.replace(result, parity=parity, times_f32=ratio)
