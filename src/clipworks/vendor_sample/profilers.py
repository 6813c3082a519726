"""Profile the image or the text tower with the options and in the form of the vendor's CLIP sample."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipworks.cli import kinds, options
from clipworks.errors import UsageError
from clipworks.options import AUTO
from clipworks.vendor_sample import arguments

if TYPE_CHECKING:
    from clipworks.profiling.profile import Load
    from clipworks.profiling.setup import Setup

Target = Literal["image", "text"]
_HARDWARE: dict[Target, tuple[str, ...]] = {
    "image": ("hw_config", "norm_elf", "space2depth_elf"),
    "text": ("hw_config", "vdsp_params"),
}
# What the sample calls the options that errors of the profiler may name.
_OPTIONS = {
    "--batch-size": "--batch_size",
    "--instances": "--instance",
    "--device": "--device_ids",
    "--depth": "--queue_size",
    "--image-size": "--shape",
}


def profile_image(argv: Sequence[str] | None = None) -> int:
    """Run ``clip_image_prof``; see `clipworks.cli.main` for the arguments and the exit status."""
    return _guard("image", argv)


def profile_text(argv: Sequence[str] | None = None) -> int:
    """Run ``clip_text_prof``."""
    return _guard("text", argv)


def _guard(target: Target, argv: Sequence[str] | None) -> int:
    return arguments.run_command(
        f"clip_{target}_prof",
        f"Measure the {target} tower: throughput and latency percentiles.",
        lambda parser: add_arguments(parser, target),
        lambda parser, args: _run(parser, args, target),
        argv,
    )


def add_arguments(parser: argparse.ArgumentParser, target: Target) -> None:
    """Declare the sample's options."""
    own: dict[Target, dict[str, str]] = {
        "image": {"-s --shape LIST": "of the input, as in [3,260,260]; only the model's own is allowed"},
        "text": {"--test_input_npz FILE": "a token file to send (default: two dozen built-in prompts)"},
    }
    rows = {
        "-m --model_prefix BUNDLE": "a clipworks bundle, BUNDLE/mod, or a model's name (default: starter)",
        "-d --device_ids LIST = [0]": "indices in the runtime's list of devices",
        "-b --batch_size N:int = 1": "samples a request",
        "-i --instance N:int = 1": "encoders in all, dealt out evenly to the devices",
        "--iterations N:int = 10240": "requests to measure, in all",
        "-q --queue_size N:int = 1": "requests in flight for each instance, exactly; 0: one after another. The "
        "sample's own N keeps N + 2 in flight: compare its 1 with 3 here",
        "--warmup_times N:int = 10": "requests to each instance before the measured ones, one after another",
        "--percentiles LIST = [50,90,95,99]": "of the latency",
        "--input_host 0|1 = 0": "1: a request begins on the host, 0: on the device",
    }
    kinds.add_options(parser, rows | own[target])
    arguments.add_hardware_options(parser, *_HARDWARE[target])
    arguments.add_runtime_options(parser)


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace, target: Target) -> int:
    load = _read_load(args)
    devices = arguments.read_list(args.device_ids, "--device_ids")
    arguments.note_hardware(args, *_HARDWARE[target])
    from clipworks.cli.profile import watching
    from clipworks.profiling.profiler import profile
    from clipworks.report.profile_summary import format_sample_form

    def tell_warm(instance: int) -> None:
        print(f"Warmup done for instance {instance}", flush=True)

    with arguments.renaming(parser, _OPTIONS), _open_setup(args, target, devices) as setup, watching(load) as report:
        result = profile(setup, load, report=report, warmup_requests=args.warmup_times, tell_warm=tell_warm)
    if result.partial:
        print("PARTIAL: interrupted; these are the figures up to then")
    form = format_sample_form(result, f"[{', '.join(devices)}]", args.instance)
    print(f"\n{form}\n")  # with an empty line before and behind, as in the sample for Python
    return 130 if result.partial else 0


def _read_load(args: argparse.Namespace) -> Load:
    from clipworks.profiling.profile import Load
    from clipworks.profiling.statistics import check_percentiles

    for option, low in (("batch_size", 1), ("instance", 1), ("iterations", 1), ("queue_size", 0), ("warmup_times", 0)):
        if getattr(args, option) < low:
            raise UsageError(f"--{option} is {getattr(args, option)}; allowed: {low} or more")
    percentiles = arguments.read_numbers(args.percentiles, "--percentiles", "[50,99]")
    return Load(
        depth=args.queue_size,
        iterations=args.iterations,
        duration_s=0.0,
        warmup_s=0.0,  # --warmup_times counts requests
        percentiles=check_percentiles(tuple(percentiles)),
    )


@contextlib.contextmanager
def _open_setup(args: argparse.Namespace, target: Target, devices: list[str]) -> Iterator[Setup]:
    from clipworks.profiling.setup import Setup

    devices, instances = _deal(devices, args.instance)
    with tempfile.TemporaryDirectory(prefix="clipworks-") as folder:
        texts = None
        if target == "text" and args.test_input_npz:
            from clipworks.vendor_sample.token_files import read_token_file, spell

            texts = Path(folder) / "texts.txt"
            texts.write_text(spell([read_token_file(Path(args.test_input_npz))])[0] + "\n", encoding="utf-8")
        yield Setup(
            target=target,
            model=arguments.find_model(args.model_prefix, "--model_prefix"),
            options=options.read_runtime_options(args, device=AUTO),
            devices=tuple(devices),
            batch_size=args.batch_size,
            instances=instances,
            staged=args.input_host == "0",
            image_size=_read_size(args.shape) if target == "image" and args.shape else None,
            texts=texts,
        )


def _deal(devices: list[str], count: int) -> tuple[list[str], int]:
    """Deal ``count`` instances out to devices, as the sample does: the devices that get any, and how many each has."""
    if len(set(devices)) < len(devices):
        raise UsageError(
            f"--device_ids is [{', '.join(devices)}]; allowed: each device once",
            hint="--instance opens several encoders on one device",
        )
    if count <= len(devices):
        return devices[:count], 1
    each, over = divmod(count, len(devices))
    if over:
        raise UsageError(
            f"--instance is {count}; allowed: up to {len(devices)}, the number of --device_ids, or a multiple of it"
        )
    return devices, each


def _read_size(shape: str) -> int:
    """The side of ``[3,260,260]``, ``[260,260]`` or ``260``; whether it is the model's is checked with the model."""
    sides = arguments.read_numbers(shape, "--shape", "[3,260,260]")
    height, width = (sides[0], sides[0]) if len(sides) == 1 else sides[-2:]
    if height != width or not height.is_integer() or sides[:-2] not in ([], [3], [1, 3]):
        raise UsageError(f"--shape is {shape}; allowed: a square of 3 channels, as in [3,260,260]")
    return int(height)
