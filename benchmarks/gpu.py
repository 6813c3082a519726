"""The PyTorch runtime on a GPU: parity, speed against others and against the floor, memory. Takes a few minutes.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py --device cpu --quick

Nothing is fetched: the models are drawn with random weights of ViT-B/32 shapes, images are noise of several scales
and the photographs that come with clipworks. On a machine without a network bring: this repository (PYTHONPATH=src
will do, nothing is installed or built), and the Python packages torch (of CUDA), transformers, numpy, onnx, ml_dtypes,
safetensors, tokenizers, ftfy, pillow; for the decoder on the device also nvidia-nvimgcodec and nvidia-nvjpeg, both of
PyTorch's CUDA. OpenVINO and ONNX Runtime are not needed.

What is done, in this order:
- parity of every precision with transformers in f32 on the CPU: batches that are captured as graphs and that are not;
- the floor: the matrix rate of each precision, the memory's bandwidth, the way from the host;
- both towers at several batches and lengths, side by side: our call from host and from device memory (the answer is on
  the host, by the host's clock), our tower alone, the same compiled by torch.compile (--compile), transformers'
  CLIPModel and plain PyTorch modules (eager, same type, inputs on the device, by device events);
- calls from several threads at once: whether copies overlap with computing;
- ten thousand calls, an encoder closed, a batch that does not fit: memory;
- JPEG files decoded by Pillow and on the device: rate, pixels, embeddings.

The floor of a row is operations over the matrix rate, or bytes of weights over the bandwidth, whichever takes longer.
Every goal is printed with met or missed; they are for an H100, and a missed one makes the exit status 1 on CUDA only.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import io
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import parity
import torch
import towers
from plain_clip import PlainTowers

from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint
from clipworks.environment import describe_environment
from clipworks.errors import ClipworksError
from clipworks.families.preprocessing import openai_preprocessing
from clipworks.images.decode import load_batch
from clipworks.images.decoders import open_batch_decoder
from clipworks.options import RuntimeOptions
from clipworks.profiling.inputs import built_in_images
from clipworks.runtimes import Encoder, Role, open_encoder
from clipworks.runtimes.torch.devices import KINDS, choose_device, list_precisions
from clipworks.runtimes.torch.loading import load_tower
from clipworks.runtimes.torch.towers import TextTower
from clipworks.towers.files import read_tower
from clipworks.towers.stored import find_tower
from clipworks.towers.weights import TextWeights, TowerWeights

SHARE, FIRST_MS, SPEEDUP = 0.6, 0.7, 2.0
ROLES: tuple[Role, ...] = ("image", "text")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done."""

    device: torch.device
    batches: list[int]
    lengths: list[int]
    seconds: float
    calls: int
    compile: bool


def draw_images(count: int, size: int) -> Any:
    """uint8 ``[count, size, size, 3]``: noise of several scales, shifted."""
    random = np.random.default_rng(0)
    base = np.zeros((size, size, 3))
    for cell in (4, 16, 56):
        coarse = random.normal(size=(-(-size // cell), -(-size // cell), 3))
        base += np.kron(coarse, np.ones((cell, cell, 1)))[:size, :size]
    square = np.clip(128 + 40 * base, 0, 255).astype(np.uint8)
    return np.stack([np.roll(square, (index * 7, index * 13), axis=(0, 1)) for index in range(count)])


def draw_ids(count: int, length: int) -> Any:
    """int32 ``[count, length]``, start and end included."""
    ids = np.random.default_rng(length).integers(1, 49406, (count, length)).astype(np.int32)
    ids[:, 0], ids[:, -1] = 49406, 49407
    return ids


def time_call(run: Callable[[], Any], seconds: float) -> float:
    """Median ms of a call that waits for its result, by the host's clock."""
    for _ in range(3):
        run()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def time_device(run: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Median ms of work on the device, by its own events; by the host's clock where it has none."""
    if device.type != "cuda":
        return time_call(run, seconds)
    for _ in range(3):
        run()
    torch.cuda.synchronize(device)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        before, after = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call,unused-ignore]  # typed in some versions
            for _ in range(2)
        )
        before.record()
        run()
        after.record()
        after.synchronize()
        taken.append(before.elapsed_time(after))
    return statistics.median(taken)


def measure_floor(plan: Plan) -> Row:
    """Matrix rates in operations/s, bandwidths in bytes/s: of memory (read and written counted), and from the host."""
    device, cuda = plan.device, plan.device.type == "cuda"
    side = 8192 if cuda else 1024
    row: Row = {"what": "floor"}
    for precision in list_precisions(device):
        left, right = (torch.randn(side, side, device=device).to(KINDS[precision]) for _ in range(2))
        ms = time_device(functools.partial(torch.matmul, left, right), device, plan.seconds)
        row[f"{precision}_tflop_per_s"] = 2 * side**3 / ms / 1e9
    source = torch.zeros(2**28 if cuda else 2**25, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    row["gb_per_s"] = 2 * source.numel() / time_device(lambda: target.copy_(source), device, plan.seconds) / 1e6
    host = torch.zeros(source.numel() // 4, dtype=torch.uint8, pin_memory=cuda)
    part = target[: host.numel()]
    ms = time_device(lambda: part.copy_(host, non_blocking=True), device, plan.seconds)
    row["host_to_device_gb_per_s"] = host.numel() / ms / 1e6
    return row


def read_weights(bundle: Bundle, role: Role) -> TowerWeights:
    """The tensors of a tower."""
    return read_tower(find_tower(bundle, role))


def open_tower(plan: Plan, bundle: Bundle, role: Role, precision: str) -> Encoder:
    """An encoder of the torch runtime."""
    return open_encoder(bundle, role, RuntimeOptions(runtime="torch", device=str(plan.device), precision=precision))


def check_parity(plan: Plan, shape: str, model: Any, bundle: Bundle) -> Iterator[Row]:
    """Unit embeddings beside transformers' in f32 on the CPU; of what is not available, the bare tower's."""
    size = parity.SHAPES[shape].size
    batches: dict[Role, Any] = {"image": draw_images(18, size), "text": draw_ids(18, 77)}
    batches["text"][9:, 20:] = 0
    batches["text"][9:, 20] = 49407
    with torch.inference_mode():
        pixels, ids = parity.normalise_pixels(batches["image"]), torch.from_numpy(batches["text"]).long()
        expected = {
            "image": model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output),
            "text": model.text_projection(model.text_model(input_ids=ids).pooler_output),
        }
    for precision in KINDS:
        row: Row = {"what": "parity with transformers f32", "shape": shape, "precision": precision}
        for role, batch in batches.items():
            if precision in list_precisions(plan.device):
                encoder = open_tower(plan, bundle, role, precision)
                # The first as they come; then in twos, which are captured, and shorter ones after longer ones.
                rows = [encoder(batch), *(encoder(batch[start : start + 2]) for start in range(0, len(batch), 2))]
                rows = [rows[0], np.concatenate(rows[1:])]
                encoder.close()
            else:
                with torch.inference_mode():
                    tower = load_tower(read_weights(bundle, role), plan.device, KINDS[precision])
                    rows = [tower(torch.from_numpy(batch).to(plan.device)).cpu().numpy()]
            wanted = parity.unit(expected[role].numpy())
            row[f"{role}_difference"] = max(float(np.abs(parity.unit(found) - wanted).max()) for found in rows)
            cosines = [(parity.unit(found) * wanted).sum(axis=1).min() for found in rows]
            row[f"{role}_cosine_min"] = float(min(cosines))
        row["emulated"] = precision not in list_precisions(plan.device)
        yield row


def count_text_operations(weights: TextWeights, count: int, length: int) -> int:
    """Of the text tower, every row computed (`towers.count_operations` cannot follow the graph's own arrangement)."""
    width, heads = weights.spec.width, weights.spec.heads or 1
    sizes = [
        sum(part.weight.size for part in (layer.q, layer.k, layer.v, layer.proj, layer.fc1, layer.fc2))
        for layer in weights.layers
    ]
    attention = 2 * length * width * (len(weights.layers) - 1)
    pooled = sizes[-1] + 2 * length * width * heads
    head = 0 if weights.head is None else weights.head.weight.size
    return int(2 * count * (length * (sum(sizes[:-1]) + attention) + pooled + head))


def measure_tower(
    plan: Plan, models: tuple[Any, Any], bundle: Bundle, role: Role, precision: str, floor: Row
) -> Iterator[Row]:
    """One precision of one tower at every batch."""
    device, kind = plan.device, KINDS[precision]
    rate, bandwidth = 1e12 * floor[f"{precision}_tflop_per_s"], 1e9 * floor["gb_per_s"]
    weights = read_weights(bundle, role)
    with torch.inference_mode():
        tower = load_tower(weights, device, kind)
    # What texts share is looked up in their ids, which a compiled call cannot do; on a GPU no tower does it.
    fixed = dataclasses.replace(tower, packs=False) if isinstance(tower, TextTower) else tower
    compiled = torch.compile(fixed.__call__, dynamic=False) if plan.compile else None
    theirs, plain = (model.to(device, kind) for model in models)
    encoder = open_tower(plan, bundle, role, precision)
    images = draw_images(max(plan.batches), 224) if role == "image" else None
    for side in plan.batches if role == "image" else plan.lengths:
        batch = draw_ids(64, side) if images is None else images[:side]
        ready, staged = torch.from_numpy(batch).to(device), encoder.stage(batch)
        run_theirs: Callable[[], Any]
        run_plain: Callable[[], Any]
        if role == "image":
            given = parity.normalise_pixels(batch).to(device, kind)
            operations = towers.count_operations(find_tower(bundle, role), {"image": list(batch.shape)})
            run_plain = functools.partial(plain.embed_images, given)

            def run_theirs(given: Any = given) -> Any:
                return theirs.visual_projection(theirs.vision_model(pixel_values=given).pooler_output)

        else:
            given = ready.long()
            assert isinstance(weights, TextWeights)
            operations = count_text_operations(weights, *batch.shape)
            run_plain = functools.partial(plain.embed_texts, given)

            def run_theirs(given: Any = given) -> Any:
                return theirs.text_projection(theirs.text_model(input_ids=given).pooler_output)

        stored = find_tower(bundle, role).path.stat().st_size * torch.finfo(kind).bits / 32
        with torch.inference_mode():
            row: Row = {
                "what": f"{role} tower",
                "precision": precision,
                "batch": len(batch),
                "length": side if role == "text" else None,
                "call_from_host_ms": time_call(functools.partial(encoder, batch), plan.seconds),
                "call_from_device_ms": time_call(functools.partial(encoder, staged), plan.seconds),
                "tower_ms": time_device(functools.partial(tower, ready), device, plan.seconds),
                "transformers_ms": time_device(run_theirs, device, plan.seconds),
                "plain_ms": time_device(run_plain, device, plan.seconds),
                "floor_ms": 1000 * max(operations / rate, stored / bandwidth),
            }
            if compiled is not None:
                row["compiled_ms"] = time_device(functools.partial(compiled, ready), device, plan.seconds)
            cosines = torch.cosine_similarity(tower(ready), run_plain().float(), dim=-1)
        if cosines.min() < 0.99:
            raise SystemExit(f"{role}: the towers compared do not compute the same (cosine {cosines.min():.3f})")
        row["per_s"] = 1000 * len(batch) / row["call_from_host_ms"]
        row["share_of_matrix_rate"] = 1000 * operations / row["call_from_device_ms"] / rate
        row["speedup"] = row["transformers_ms"] / row["call_from_device_ms"]
        yield row
    encoder.close()


def measure_threads(plan: Plan, bundle: Bundle, precision: str) -> Iterator[Row]:
    """Images a second from host memory, by threads that each keep one call in flight."""
    size = min(64, max(plan.batches))
    encoder, batch = open_tower(plan, bundle, "image", precision), draw_images(size, 224)
    for threads in (1, 2, 4):
        done = [0] * threads
        encoder(batch)
        start = time.perf_counter()

        def run(place: int, done: list[int] = done, start: float = start) -> None:
            while time.perf_counter() < start + 2 * plan.seconds:
                encoder(batch)
                done[place] += len(batch)

        workers = [threading.Thread(target=run, args=(place,)) for place in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rate = sum(done) / (time.perf_counter() - start)
        yield {"what": "threads", "precision": precision, "threads": threads, "batch": size, "per_s": rate}
    encoder.close()


def read_memory(device: torch.device) -> float:
    """MiB that tensors take on the device; of this process where that is the host."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return float(torch.cuda.memory_allocated(device) / 2**20)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def measure_memory(plan: Plan, bundle: Bundle, precision: str) -> Iterator[Row]:
    """What many calls add, and what is left when the encoder is closed."""
    before = read_memory(plan.device)
    encoder, batch = open_tower(plan, bundle, "text", precision), draw_ids(1, 8)
    for _ in range(max(10, plan.calls // 10)):
        encoder(batch)
    warm = read_memory(plan.device)
    for _ in range(plan.calls):
        encoder(batch)
    later = read_memory(plan.device)
    encoder.close()
    del encoder
    after = read_memory(plan.device)
    row: Row = {"what": "memory", "precision": precision, "calls": plan.calls, "open_mib": warm - before}
    yield row | {"grown_mib": later - warm, "left_mib": after - before}
    if plan.device.type == "cuda":
        yield exhaust_memory(plan, bundle, precision)


def exhaust_memory(plan: Plan, bundle: Bundle, precision: str) -> Row:
    """A batch for which there is no memory left, and a smaller one behind it."""
    encoder, batch = open_tower(plan, bundle, "image", precision), draw_images(64, 224)
    expected = encoder(batch[:17])
    free, _ = torch.cuda.mem_get_info(plan.device)
    hog = torch.empty(free - 2**27, dtype=torch.uint8, device=plan.device)  # 128 MiB are left
    told = ""
    try:
        encoder(np.concatenate([batch] * 16))
    except ClipworksError as error:
        told = error.message
    del hog
    torch.cuda.empty_cache()
    works = np.allclose(encoder(batch[:17]), expected, atol=1e-2)
    encoder.close()
    return {"what": "no memory left", "precision": precision, "told": told, "works_afterwards": bool(works)}


def measure_decoding(plan: Plan, bundle: Bundle, precision: str) -> Iterator[Row]:
    """The photographs that come with clipworks, decoded and cut to squares: by Pillow, and on the device."""
    spec, contents = openai_preprocessing(224), built_in_images() * 8
    with ThreadPoolExecutor() as pool:

        def run_all() -> None:
            list(pool.map(lambda content: load_batch([content], spec), contents))

        one = time_call(lambda: load_batch(contents, spec), plan.seconds)
        many = time_call(run_all, plan.seconds)
    yield {
        "what": "decoding by Pillow",
        "per_s_one_core": 1000 * len(contents) / one,
        "per_s_all_cores": 1000 * len(contents) / many,
    }
    try:
        decoder = open_batch_decoder("nvimgcodec", str(plan.device), spec)
    except ClipworksError as error:
        yield {"what": "decoding on the device", "refused": error.message}
        return
    encoder = open_tower(plan, bundle, "image", precision)
    with tempfile.TemporaryDirectory() as folder:
        prepared: list[Any] = []
        for number, content in enumerate(contents):
            path = Path(folder) / f"{number}.jpg"
            path.write_bytes(content)
            prepared.append(decoder.prepare(str(path)))
    ms = time_call(lambda: decoder.develop(prepared), plan.seconds)
    squares: list[Any] = decoder.develop(prepared)
    found = np.stack(squares[:6])
    expected = load_batch([io.BytesIO(content).getvalue() for content in contents[:6]], spec)
    apart = np.abs(found.astype(int) - expected)
    cosines = (parity.unit(encoder(found)) * parity.unit(encoder(expected))).sum(axis=1)
    encoder.close()
    yield {
        "what": "decoding on the device",
        "decoder": decoder.name,
        "per_s": 1000 * len(contents) / ms,
        "left_to_pillow": decoder.single,
        "pixels_that_differ": float((apart > 0).mean()),
        "largest_difference": int(apart.max()),
        "mean_difference": float(apart.mean()),
        "cosine_min": float(cosines.min()),
    }


def judge(rows: list[Row]) -> list[tuple[bool, str]]:
    """Every goal that the rows have something on: whether it is met, and what was found."""
    found: list[tuple[bool, str]] = []
    for row in rows:
        what = row["what"]
        if what.startswith("parity") and row["precision"] == "f32":
            worst = max(row["image_difference"], row["text_difference"])
            found.append((worst <= parity.LIMIT, f"{row['shape']} f32 within {parity.LIMIT:.0e}: {worst:.1e}"))
        if what == "image tower":
            name = f"image tower, {row['precision']}, batch {row['batch']}"
            found.append((row["speedup"] >= SPEEDUP, f"{name}: {SPEEDUP}x transformers: {row['speedup']:.2f}x"))
            if row["precision"] == "bf16" and row["batch"] == 256:
                share = row["share_of_matrix_rate"]
                found.append((share >= SHARE, f"{name}: {SHARE:.0%} of the matrix rate: {share:.0%}"))
            if row["precision"] == "bf16" and row["batch"] == 1:
                ms = row["call_from_device_ms"]
                found.append((ms <= FIRST_MS, f"{name}: {FIRST_MS} ms: {ms:.2f} ms"))
        if what == "memory":
            name = f"memory, {row['precision']}, {row['calls']:,} calls"
            found.append((row["grown_mib"] < 1, f"{name}: nothing added: {row['grown_mib']:.2f} MiB"))
        if what == "no memory left":
            met = "not enough memory" in row["told"] and row["works_afterwards"]
            found.append(
                (met, f"{row['precision']}: a batch without memory is one error, the next works: {row['told']}")
            )
    return found


def read_plan(args: argparse.Namespace) -> Plan:
    """What the options ask for."""
    batches, lengths = args.batches or ("1,8" if args.quick else "1,8,64,256,1024"), args.lengths
    return Plan(
        device=choose_device(args.device),
        batches=[int(part) for part in batches.split(",")],
        lengths=[int(part) for part in (lengths or ("8,77" if args.quick else "8,16,32,77")).split(",")],
        seconds=args.seconds or (0.1 if args.quick else 0.5),
        calls=100 if args.quick else 10_000,
        compile=args.compile,
    )


def run(plan: Plan, shapes: list[str]) -> Iterator[Row]:
    """Everything, row by row."""
    with tempfile.TemporaryDirectory() as scratch:
        for number, shape in enumerate(shapes):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            model = parity.draw_model(parity.SHAPES[shape], "quick_gelu", 2, folder / "checkpoint")
            yield from check_parity(plan, shape, model, convert_checkpoint(folder / "checkpoint", folder / "bundle"))
        folder = Path(scratch) / "speed"
        folder.mkdir()
        model = parity.draw_model(parity.SHAPES["B/32"], "quick_gelu", 2, folder / "checkpoint")
        bundle = convert_checkpoint(folder / "checkpoint", folder / "bundle")
        floor = measure_floor(plan)
        yield floor
        precisions = list_precisions(plan.device)
        best = "bf16" if "bf16" in precisions else precisions[-1]
        yield from measure_memory(plan, bundle, best)
        yield from measure_threads(plan, bundle, best)
        yield from measure_decoding(plan, bundle, best)
        for precision in sorted(precisions, key=lambda name: name != best):
            for role in ROLES:
                yield from measure_tower(plan, (model, PlainTowers(model).eval()), bundle, role, precision, floor)


def main() -> int:
    """Check, measure, print; 1 when a goal is missed on a CUDA device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a dry run: small batches, few calls")
    parser.add_argument("--batches", help="of images (default: 1,8,64,256,1024)")
    parser.add_argument("--lengths", help="of texts, 64 at once (default: 8,16,32,77)")
    parser.add_argument("--seconds", type=float, help="for each figure (default: 0.5)")
    parser.add_argument("--shapes", nargs="+", choices=parity.SHAPES, default=["B/32"], help="of the parity")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too, which takes its time")
    parser.add_argument("--json", type=Path, help="write every row and the environment here")
    args = parser.parse_args()
    plan = read_plan(args)
    cuda = plan.device.type == "cuda"
    name = torch.cuda.get_device_name(plan.device) if cuda else plan.device.type
    rows: list[Row] = []
    start = time.monotonic()
    try:
        for row in run(plan, args.shapes):
            rows.append(row)
            print(json.dumps({key: round(v, 9) if isinstance(v, float) else v for key, v in row.items()}), flush=True)
    finally:  # what was measured before something failed is worth having
        goals = judge(rows)
        if args.json:
            record: Row = {
                "format": 1,
                "benchmark": "gpu",
                "device": name,
                "rows": rows,
                "seconds": time.monotonic() - start,
            }
            record |= {"goals": [{"met": met, "goal": text} for met, text in goals]}
            record |= {"torch": torch.__version__, "environment": dataclasses.asdict(describe_environment())}
            args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for met, text in goals:
        print(f"{'met' if met else 'MISSED':8s}{text}")
    missed = sum(not met for met, _ in goals)
    judged = "" if cuda else "; they are for an H100 and say nothing of this device"
    print(f"{name}, {time.monotonic() - start:.0f} s: {len(goals) - missed} of {len(goals)} goals met{judged}")
    return 1 if missed and cuda else 0


if __name__ == "__main__":
    sys.exit(main())
