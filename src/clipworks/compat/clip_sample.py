"""Match one picture with strings, or classify a list of pictures, in the forms of the vendor's CLIP sample."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.compat import arguments
from clipworks.errors import ImageError, UsageError

if TYPE_CHECKING:
    from clipworks.compat.towers import Towers
    from clipworks.scoring import Floats

_HARDWARE = (
    "imgmod_hw_config",
    "norm_elf",
    "space2depth_elf",
    "txtmod_hw_config",
    "txtmod_vdsp_params",
)
_BATCH = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``clip_sample``; see `clipworks.cli.main` for the arguments and the exit status."""
    from clipworks.cli import run_guarded

    return run_guarded("clip_sample", _run, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sample's options."""
    parser.add_argument(
        "--imgmod_prefix",
        metavar="BUNDLE",
        help="image model: a bundle, BUNDLE/mod, or a model's name (default: that of --txtmod_prefix, or starter)",
    )
    parser.add_argument(
        "--txtmod_prefix", metavar="BUNDLE", help="text model, likewise (default: that of --imgmod_prefix)"
    )
    parser.add_argument(
        "-d", "--device_id", default="0", metavar="N", help="place in the runtime's list of devices (default: 0)"
    )
    parser.add_argument("--input_file", metavar="FILE", help="one picture: print its best strings")
    parser.add_argument("--strings", metavar="LIST", help=f'the labels (default: "{arguments.STRINGS}")')
    parser.add_argument("--label_file", metavar="FILE", help="the labels, one a line")
    parser.add_argument(
        "--npz_files_path", metavar="FOLDER", help="token files of make_input_npz for the labels of --label_file"
    )
    parser.add_argument("--dataset_filelist", metavar="FILE", help="pictures, one path a line: write their best five")
    parser.add_argument("--dataset_root", metavar="FOLDER", help="what the paths of the list are relative to")
    parser.add_argument("--dataset_output_file", metavar="FILE", help="the file to write for the list")
    arguments.add_hardware_options(parser, *(f"--{name}" for name in _HARDWARE))
    arguments.add_runtime_options(parser)


def _run(words: list[str]) -> int:
    parser = arguments.make_parser("clip_sample", __doc__)
    add_arguments(parser)
    args = parser.parse_args(words)
    _check(args)
    arguments.note_hardware(args, *_HARDWARE)
    from clipworks.compat.towers import open_towers

    with open_towers(args) as towers:
        names, texts = towers.embed_labels(args)
        if args.dataset_filelist:
            return _classify(args, towers, names, texts)
        scores = towers.score(towers.image.embed_images([args.input_file]), texts)[0]
    from clipworks.scoring import rank

    most = 5 if len(names) >= 5 else 3
    print(f"Top{most}:")
    for place, index in enumerate(rank(scores, min(most, len(names)))):
        print(f"{place}th, string: {names[index]}, score: {scores[index]:.6g}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if bool(args.input_file) == bool(args.dataset_filelist):
        raise UsageError("one of --input_file (a picture) and --dataset_filelist (a list of them) is needed, not both")
    if bool(args.dataset_filelist) != bool(args.dataset_output_file):
        raise UsageError("--dataset_filelist and --dataset_output_file go together")
    if args.dataset_root and not args.dataset_filelist:
        raise UsageError("--dataset_root goes with --dataset_filelist")
    if args.strings is not None and (args.label_file or args.npz_files_path):
        raise UsageError("--strings does not go with --label_file or --npz_files_path: both give the labels")
    if args.npz_files_path and not args.label_file:
        raise UsageError("--npz_files_path needs --label_file, whose names say which token files are the labels")


def _classify(args: argparse.Namespace, towers: Towers, names: list[str], texts: Floats) -> int:
    """Write the best five of every picture of the list as they are found; those that cannot be read have no lines."""
    from clipworks.cli.progress import Bar
    from clipworks.cli.terminal import show_text
    from clipworks.datasets import read_dataset
    from clipworks.pipeline import embed_blocks, prepare_sample
    from clipworks.records import Prediction, Record
    from clipworks.sample_text import encode_text
    from clipworks.scoring import rank

    pictures = read_dataset(args.dataset_filelist, root=args.dataset_root)
    output, failed, bar = Path(args.dataset_output_file), 0, Bar("images")
    try:
        stream = output.open("wb")
    except OSError as error:
        raise UsageError(f"--dataset_output_file {output} cannot be written: {error.strerror}") from None
    with stream:
        model = towers.image
        for block in embed_blocks(
            pictures, lambda sample: prepare_sample(model, sample), model.embed_pixels, batch_size=_BATCH
        ):
            good = [place for place, error in enumerate(block.errors) if error is None]
            for reason in filter(None, block.errors):
                failed += 1
                bar.clear()
                print(f"clip_sample: {show_text(reason)}", file=sys.stderr)
            for place, row in zip(good, towers.score(block.rows, texts) if good else (), strict=True):
                top = tuple(
                    Prediction(id=int(index), score=float(row[index]), name=names[index])
                    for index in rank(row, min(5, len(names)))
                )
                stream.write(encode_text(Record(index=block.start + place, path=block.items[place].path, top=top)))
            bar.show(block.start + len(block.items), len(pictures))
        bar.clear()
    if failed:
        raise ImageError(f"{failed} of {len(pictures)} pictures could not be read; {output} has no lines for them")
    return 0
