"""Saved results for tests of reports: figures made up, in the forms that the commands write."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipworks.comparison.comparison import (
    Actual,
    Comparison,
    GateResult,
    ImageSet,
    Requested,
    Row,
    comparison_to_json,
)
from clipworks.comparison.figures import (
    Agreement,
    ChangedImage,
    Difference,
    Footprint,
    Problem,
    Repeated,
    Speed,
    TowerStart,
)
from clipworks.comparison.published import PublishedRow, PublishedSpeed
from clipworks.environment import Environment
from clipworks.evaluation.accuracy import wilson
from clipworks.evaluation.evaluation import Accuracy
from clipworks.options import ImageOptions
from clipworks.profiling.profile import Cold, Load, Parity, Profile, Run, StageTime
from clipworks.profiling.search import RateSearch, Slo, Trial
from clipworks.profiling.statistics import Overload, Percentile, Window, spread
from clipworks.results.formats import FORMATS
from clipworks.results.records import Prediction, Record

ENVIRONMENT = Environment(
    cpu="a processor",
    cores=8,
    isa=("avx2",),
    memory_gib=16.0,
    load_1m=0.1,
    system="Linux 6 x86_64",
    python="3.12.1",
    packages={"clipworks": "0.1.0", "numpy": "2.0.0"},
)
COLD = Cold(import_ms=60.0, read_ms=45.0, compile_ms=270.0, first_call_us=30_000.0)
LOAD = Load(iterations=10, duration_s=1.0)
# What a name may hold that a page, a table or a terminal would take for more than text.
NASTY = (
    "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>|`$x$`\n\u202eevil\u2066\udcff[a](http://x.test/)@all.jpg"
)


def make_run(count: int = 200, *, mean_us: float = 20_000.0, raw: bool = False, **changes: Any) -> Run:
    """A closed loop's run with one request in flight."""
    times = np.random.default_rng(count).gamma(16, mean_us / 16, count)
    ns = (times * 1000).astype(np.int64)
    seconds = float(times.sum()) / 1e6
    window = Window(
        seconds=seconds,
        requests=count,
        requests_per_s=count / seconds,
        response=spread(ns, LOAD.percentiles),
        service=spread(ns, LOAD.percentiles),
        queue=spread(np.zeros_like(ns), LOAD.percentiles),
        in_flight=1.0,
        little=1.0,
    )
    run = Run(
        window=window,
        stop="stable",
        windows_per_s=tuple((count / seconds * np.linspace(0.95, 1, 5)).tolist()),
        places=1,
        started_us=tuple(np.cumsum(times).tolist()) if raw else (),
        response_us=tuple(times.tolist()) if raw else (),
    )
    return dataclasses.replace(run, **changes)


def make_profile(*runs: Run, **changes: Any) -> Profile:
    """A profile of the image tower."""
    profile = Profile(
        target="image",
        model="tiny",
        card_sha256="ab" * 32,
        runtime="openvino",
        devices=("cpu",),
        precision="f32",
        threads=4,
        batch_size=1,
        instances=1,
        input="host",
        inputs="64 views of 6 built-in images",
        load=LOAD,
        cold=COLD,
        runs=runs or (make_run(raw=True),),
        peak_memory_mib=200.0,
        partial=False,
        environment=ENVIRONMENT,
        measured_at="2026-01-02T03:04:05Z",
    )
    return dataclasses.replace(profile, **changes)


def make_sweep() -> list[Profile]:
    """Profiles over batch and depth; not a percentile of p99 with samples enough."""
    return [
        make_profile(
            make_run(100 + batch * 10 + depth, mean_us=10_000.0 * batch),
            batch_size=batch,
            load=dataclasses.replace(LOAD, depth=depth),
        )
        for batch in (1, 2, 4)
        for depth in (0, 1)
    ]


def make_search() -> dict[str, Any]:
    """A rate search as printed."""
    trials = tuple(
        Trial(
            rate=rate,
            kept=rate <= 30,
            run=make_run(
                700,
                mean_us=500.0 * rate,
                overload=Overload(
                    overloaded=rate > 45, offered_per_s=rate, finished_per_s=min(rate, 45.0), queue_growth=0.0
                ),
            ),
        )
        for rate in (25.0, 50.0, 30.0, 40.0)
    )
    search = RateSearch(slo=Slo(percent=99, bound_us=25_000.0), best=30.0, lowest_failed=40.0, trials=trials)
    return {"capacity": dataclasses.asdict(make_profile()), "search": dataclasses.asdict(search)}


def make_pipeline() -> Profile:
    """A profile with stages and parity."""
    stages = (StageTime(name="decode", mean_us=4000.0, share=0.2), StageTime(name="encode", mean_us=16000.0, share=0.8))
    parity = Parity(reference="openvino f32", count=64, cosine_min=0.9991, cosine_median=0.9999, top1_agreement=0.98)
    return make_profile(make_run(stages=stages), target="pipeline", parity=parity)


def make_records(count: int, *, classes: int = 12, path: str = "folder/{}.jpg", seed: int = 0) -> list[Record]:
    """Records of which about three quarters are right, and every fiftieth could not be read."""
    chances = np.random.default_rng(seed)
    records = []
    for index in range(count):
        truth = index % classes
        first = truth if chances.random() < 0.75 else (truth + 1 + int(chances.integers(classes - 1))) % classes
        score = float(chances.uniform(0.3, 1))
        top = tuple(
            Prediction(id=(first + step) % classes, score=score / 3**step, name=f"class {(first + step) % classes}")
            for step in range(5)
        )
        failed = index % 50 == 49
        records.append(
            Record(
                index=index,
                path=path.format(index),
                truth=truth,
                top=() if failed else top,
                error="is empty" if failed else None,
            )
        )
    return records


def write_records(path: Path, records: Sequence[Record], form: str = "jsonl") -> Path:
    """Write a results file."""
    path.write_bytes(b"".join(map(FORMATS[form].encode, records)))
    return path


def write_json(path: Path, values: Profile | dict[str, Any]) -> Path:
    """Write what a command prints with --json."""
    path.write_text(json.dumps(dataclasses.asdict(values) if isinstance(values, Profile) else values))
    return path


def write_sweep(path: Path) -> Path:
    """Write what ``clipworks profile --sweep ... --json`` prints."""
    profiles = [dataclasses.asdict(item) for item in make_sweep()]
    return write_json(path, {"profiles": profiles, "best_throughput": 0, "pareto": [], "pareto_percentile": 99})


def make_comparison(**changes: Any) -> Comparison:
    """Three rows that were available, one that was not, a published one, and a gate that was missed."""
    reference = "openvino cpu f32"
    rows = (
        _make_row(reference, 900, 70.0, is_reference=True, pareto=False),
        _make_row("openvino cpu int8", 893, 160.0, pareto=True),
        _make_row("onnxruntime cpu f32", 901, 75.0, pareto=True),
        dataclasses.replace(
            _make_row("openvino cpu bf16", 0, 1.0, pareto=None),
            actual=None,
            problems=(Problem(stage="open", reason="openvino computes no bf16 here", hint="take f32"),),
            accuracy=(),
            differences=(),
            agreement=None,
            footprint=None,
            speeds=(),
        ),
    )
    comparison = Comparison(
        rows=rows,
        reference=reference,
        images=ImageSet(
            source="photographs",
            source_sha256="00",
            listed=1000,
            used=1000,
            errors=0,
            with_truth=1000,
            truth_from={"results": 1000},
            labels="imagenet",
            classes=1000,
            templates=1,
            options=ImageOptions(),
        ),
        loads=(LOAD,),
        batch_sizes=(1,),
        repeats=3,
        rounds=2,
        pareto="top1",
        published=(
            PublishedRow(
                name="theirs",
                source="a paper, table 3",
                top1=0.87,
                speeds=(PublishedSpeed(tower="image", samples_per_s=140.0),),
            ),
        ),
        gates=(GateResult(row="openvino cpu int8", gate="top1", bound=-0.5, value=-0.7, kept=False),),
        partial=True,
        environment=ENVIRONMENT,
        measured_at="2026-01-02T03:04:05Z",
        seconds=100.0,
    )
    return dataclasses.replace(comparison, **changes)


def write_comparison(path: Path, comparison: Comparison) -> Path:
    """Write comparison.json."""
    path.write_text(comparison_to_json(comparison))
    return path


def _make_row(name: str, correct: int, rate: float, *, is_reference: bool = False, pareto: bool | None) -> Row:
    runtime, device, precision = name.split()
    low, high = wilson(correct, 1000)
    difference = Difference(
        reference="openvino cpu f32",
        k=1,
        count=1000,
        only_row=3,
        only_reference=903 - correct,
        difference=(correct - 900) / 1000,
        low=(correct - 905) / 1000,
        high=(correct - 896) / 1000,
        p_value=0.0004,
    )
    changed = ChangedImage(
        path="photographs/changed.jpg",
        cosine=0.91,
        score_change=0.4,
        truth=3,
        truth_name="tench",
        reference_class=3,
        reference_name="tench",
        reference_score=0.9,
        row_class=4,
        row_name="goldfish",
        row_score=0.6,
    )
    agreement = Agreement(
        reference="openvino cpu f32",
        count=1000,
        cosine_min=0.991,
        cosine_p1=0.995,
        cosine_median=0.999,
        head_cosine_min=0.9999,
        top1=Accuracy(k=1, correct=990, count=1000, share=0.99, low=0.981, high=0.995),
        score_change_max=0.21,
        worst=(changed,),
        changed=(changed,),
    )
    return Row(
        name=name,
        model="tiny",
        card_sha256="ab" * 32,
        asked=Requested(model="tiny", runtime=runtime, device=device, precision=precision),
        actual=Actual(runtime=runtime, device=device, precision=precision, threads=2),
        is_reference=is_reference,
        problems=(),
        accuracy=(Accuracy(k=1, correct=correct, count=1000, share=correct / 1000, low=low, high=high),),
        differences=() if is_reference else (difference,),
        agreement=None if is_reference else agreement,
        footprint=Footprint(
            towers=(TowerStart(tower="image", file_bytes=20_000_000, cold=COLD),),
            before_memory_mib=80.0,
            peak_memory_mib=240.0,
        ),
        speeds=(
            Speed(
                tower="image",
                batch_size=1,
                depth=1,
                inputs="64 views",
                samples_per_s=_repeat(rate),
                ratio=None if is_reference else _repeat(rate / 70),
                mean_us=_repeat(1e6 / rate),
                latency=(Percentile(percent=99, value_us=1.5e6 / rate, trusted=False, needed=662),),
                rounds=(0, 1),
                runs=(make_run(), make_run()),
            ),
        ),
        pareto=pareto,
    )


def _repeat(median: float) -> Repeated:
    return Repeated(median=median, low=0.97 * median, high=1.04 * median)
