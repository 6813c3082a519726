"""Options that mean the same in every command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import kinds
from clipworks.errors import RuntimeUnavailableError, UsageError
from clipworks.options import (
    AUTO,
    DEFAULT_IMAGE_OPTIONS,
    MAX_PIXELS,
    PRECISIONS,
    STARTER,
    STREAM,
    ImageOptions,
    RuntimeOptions,
)

if TYPE_CHECKING:
    from clipworks.datasets.listing import DataSet
    from clipworks.datasets.selection import Selection
    from clipworks.images.decoders import BatchDecoder
    from clipworks.model import Model
    from clipworks.runtimes import Role

ROOT = "the folder that a list's paths are relative to"
SOURCE = (
    "a folder of images (class folders are the truth), an image, a tar, a pattern in quotes, or a list: one path a "
    "line, or path, tab, label; - reads a list from standard input"
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model, --offline and `add_runtime_options`."""
    group = parser.add_argument_group("model")
    rows = {
        "--model NAME": "a known name, a hub id or a bundle's folder (default: starter, a small built-in stand-in, not "
        "CLIP)",
        "--offline": "never ask a model hub",
    }
    kinds.add_options(group, rows)
    group.set_defaults(model=STARTER)
    add_runtime_options(group)


def add_runtime_options(group: kinds.Group, named: Collection[str] = ("runtime", "device", "precision")) -> None:
    """Add the fields of `RuntimeOptions`; of those in ``named`` a command may have its own form and leave some out."""
    from clipworks.runtimes.registry import RUNTIMES

    rows = [row for row in RUNTIMES.values() if row.listed]
    taken = [f"{row.name} for {row.suits}" for row in rows if row.suits]
    first = next(row.name for row in rows if row.default)
    devices = dict.fromkeys(device for row in rows for device in row.devices)
    forms = {
        "runtime": f"{', '.join(row.name for row in rows)} or auto (default: auto: {', '.join(taken)}, else {first} "
        "where installed; clipworks devices says which)",
        "device": f"{', '.join(devices)}, ... as the runtime names it (default: auto)",
        "precision": f"{', '.join(PRECISIONS)} or auto (default: auto: bf16 where it is quicker than f32, else f32)",
    }
    kinds.add_options(group, {f"--{name} {name[0].upper()}": forms[name] for name in named})
    group.set_defaults(**dict.fromkeys(named, AUTO))
    kinds.add_options(group, {"--threads N>=1": "CPU threads of the runtime (default: its own choice)"})


def read_runtime_options(
    args: argparse.Namespace,
    *,
    runtime: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    streams: int | None = 1,
    cache: bool = True,
) -> RuntimeOptions:
    """The options of `add_runtime_options`; what is given here stands for an option that the command lacks."""
    return RuntimeOptions(
        runtime=args.runtime if runtime is None else runtime,
        device=args.device if device is None else device,
        precision=args.precision if precision is None else precision,
        threads=args.threads,
        streams=streams,
        cache=cache,
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    kinds.add_options(parser, {"--json": "print one JSON object instead of text"})


def add_published_option(parser: argparse.ArgumentParser) -> None:
    """Add --published."""
    figures = "figures of others to stand beside: vendor-card (of the vendor's CLIP sample), or a file, a JSON list"
    kinds.add_options(parser, {"--published P": figures})


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Add SOURCE, `add_selection_options`, how it is read, `add_image_options`, --decoder, --restart and --strict."""
    rows = {
        "SOURCE ...": SOURCE,
        "--batch-size N>=1 = 32": "images encoded at once",
        "--workers N>=1": "threads that read and decode (default: one a core); with --ray tasks (default: one for two "
        "cores of a Ray started here, on a cluster as many as it has CPUs for)",
        "--restart": "throw away what an earlier run has written",
        "--strict": "exit with 1 if an image could not be read",
    }
    kinds.add_options(parser, rows)
    add_selection_options(parser)
    add_image_options(parser)
    add_decoder_option(parser)


def add_selection_options(parser: kinds.Group) -> None:
    """Add --root, --no-recursive and --limit."""
    rows = {
        "--root FOLDER": ROOT,
        "--no-recursive": "leave out the folders below a folder",
        "--limit N>=1": "the first N images only",
    }
    kinds.add_options(parser, rows)


def read_selection(args: argparse.Namespace, sources: Sequence[str], *, limit: int | None = None) -> Selection:
    """What SOURCE and the options of `add_selection_options` name; and the list that comes on standard input."""
    from clipworks.datasets.selection import Selection

    listed = b""
    if sources.count(STREAM) > 1:
        raise UsageError("- stands twice; allowed: once")
    if STREAM in sources:
        listed = b"" if sys.stdin is None else sys.stdin.buffer.read()
    return Selection(
        sources=tuple(sources), root=args.root, recursive=not args.no_recursive, limit=limit, listed=listed
    )


def read_images(args: argparse.Namespace, sources: Sequence[str]) -> DataSet:
    """The data set that SOURCE and the options of `add_selection_options` name."""
    from clipworks.datasets.selection import read_selection as read

    return read(read_selection(args, sources, limit=args.limit))


def add_decoder_option(parser: kinds.Group) -> None:
    """Add --decoder."""
    decoders = "pillow, or nvimgcodec: JPEG files in batches on the encoder's device, not to the bit"
    kinds.add_options(parser, {"--decoder D = pillow": decoders})


def add_ray_options(parser: argparse.ArgumentParser) -> None:
    """Add --ray, --encoders and --shard-size."""
    group = parser.add_argument_group("on Ray, into a folder of Parquet shards")
    rows = {
        "--ray ADDRESS": "local: a Ray that is started here; auto: the cluster that this machine is a node of; "
        "HOST:PORT: that one (default: run in this process, without Ray)",
        "--encoders N>=1": "models loaded on the cluster (default: one a GPU or node)",
        "--shard-size N>=1": "images in a shard, in whole batches (default: 8192)",
    }
    kinds.add_options(group, rows)


def check_ray_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options that go with Ray alone, or without it."""
    for name in ("encoders", "shard_size"):
        if args.ray is None and getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} goes with --ray")
    if args.ray is not None and args.decoder != "pillow":
        raise UsageError(f"--decoder is {args.decoder}; allowed with --ray: pillow")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add --exif, --alpha, --as-published and --max-pixels."""
    group = parser.add_argument_group("how images are read")
    rows = {
        "--exif apply|ignore": "apply turns an image as its EXIF orientation says (the default); ignore is what the "
        "reference does",
        "--alpha card|before|after|white = card": "when alpha is dropped: before the resize, after resize and crop, or "
        "as the model's card says; white composites over white, as a person sees the image",
        "--max-pixels N>=1": f"most pixels that an image file may have (default: {MAX_PIXELS:,})",
        "--as-published": "to the bit what the model's own transform does: EXIF is not applied, a palette not expanded "
        "before the resize, 16 bits not scaled to 8",
    }
    kinds.add_options(group, rows)
    group.set_defaults(max_pixels=MAX_PIXELS)


def read_image_options(args: argparse.Namespace) -> ImageOptions:
    """The options of `add_image_options`; raises UsageError where two do not go together."""
    return ImageOptions(exif=args.exif, alpha=args.alpha, as_published=args.as_published, max_pixels=args.max_pixels)


def add_errors_option(group: kinds.Group, *, what: str = "images that could not be read") -> None:
    """Add --errors."""
    kinds.add_options(group, {"--errors wrong|skip = wrong": f"what {what} count as"})


def load_model(
    args: argparse.Namespace,
    *,
    images: ImageOptions = DEFAULT_IMAGE_OPTIONS,
    towers: Sequence[Role] = ("image", "text"),
    streams: int | None = 1,
) -> Model:
    """Load the model that the options of `add_model_options` name; see `clipworks.load` for the rest."""
    from clipworks.loading import load

    try:
        chosen = read_runtime_options(args, streams=streams)
        return load(args.model, chosen, images, offline=args.offline, towers=towers)
    except RuntimeUnavailableError as error:
        if (recalled := getattr(args, "recalled", None)) is None:
            raise
        raise RuntimeUnavailableError(f"{error.message}; {recalled}", hint="--restart starts over") from None


def recall_choice(args: argparse.Namespace, manifest: Path) -> None:
    """Let ``auto`` stand for what it took when the run was begun that this one resumes."""
    from clipworks.results import manifest as provenance
    from clipworks.results.journal import read_manifest

    if args.restart or not manifest.is_file():
        return
    asked = read_runtime_options(args, device=AUTO)
    recalled = provenance.recall_choice(read_manifest(str(manifest)), asked)
    if recalled != asked:
        args.runtime, args.precision = recalled.runtime, recalled.precision
        args.recalled = f"{args.runtime}, {args.precision}, is what the run took that {manifest} is of"


def open_decoder(args: argparse.Namespace, model: Model) -> BatchDecoder | None:
    """The batch decoder that --decoder names, which is said on standard error; None for Pillow."""
    if args.decoder == "pillow":
        return None
    from clipworks.images.decoders import open_batch_decoder

    decoder = open_batch_decoder(args.decoder, model.device, model.card.image, options=model.image_options)
    print(f"JPEG files are decoded by {decoder.name}, whose pixels are not those of Pillow", file=sys.stderr)
    return decoder
