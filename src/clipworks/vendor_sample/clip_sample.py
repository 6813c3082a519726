"""Match one image with strings, or classify a list of images, in the forms of the vendor's CLIP sample."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from clipworks.cli import kinds
from clipworks.errors import ImageError, UsageError
from clipworks.vendor_sample import arguments

_HARDWARE = ("imgmod_hw_config", "norm_elf", "space2depth_elf", "txtmod_hw_config", "txtmod_vdsp_params")
_TOP = 5
_SHOWN_ERRORS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``clip_sample``; see `clipworks.cli.main` for the arguments and the exit status."""
    return arguments.run_command("clip_sample", __doc__, add_arguments, _run, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sample's options."""
    rows = {
        "--imgmod_prefix BUNDLE": "image model: a bundle, BUNDLE/mod, or a model's name (default: that of "
        "--txtmod_prefix, or starter)",
        "--txtmod_prefix BUNDLE": "text model, likewise (default: that of --imgmod_prefix)",
        "-d --device_id N = 0": "index in the runtime's list of devices",
        "--input_file FILE": "one image: print its best strings",
        "--strings LIST": f'the labels (default for one image: "{arguments.STRINGS}")',
        "--label_file FILE": f"{arguments.LABEL_FILE} (default for a list of images: imagenet-synsets)",
        "--npz_files_path FOLDER": "token files of make_input_npz for the labels of --label_file",
        "--dataset_filelist FILE": "images, one path a line: write their best five",
        "--dataset_root FOLDER": "what the paths of the list are relative to",
        "--dataset_output_file FILE": "the file to write for the list",
    }
    kinds.add_options(parser, rows)
    arguments.add_hardware_options(parser, *_HARDWARE)
    restart = "throw away what an earlier run wrote to --dataset_output_file, instead of resuming it"
    kinds.add_options(arguments.add_runtime_options(parser), {"--restart": restart})


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    _check(args)
    arguments.note_hardware(args, *_HARDWARE)
    with arguments.renaming(parser, {"--root": "--dataset_root", "--device": "--device_id"}):
        return _classify(args) if args.dataset_filelist else _match(args)


def _match(args: argparse.Namespace) -> int:
    from clipworks.cli.terminal import show_text
    from clipworks.scoring import compare, rank, score
    from clipworks.vendor_sample.towers import choose_labels, open_towers

    names = choose_labels(args)
    with open_towers(args) as towers:
        kinds.check_images([args.input_file])
        texts = towers.embed_labels(names, args.npz_files_path or None)
        cosines = compare(towers.image.embed_images([args.input_file]), texts)
        scores = score(cosines, towers.image.card.score)[0]
    most = min(_TOP, len(names))
    print(f"Top{most}:")
    for place, index in enumerate(rank(scores, most)):
        # Always with a point, as the sample for Python has it: scripts find scores by their digits around it.
        print(f"{place}th, string: {show_text(names.names[index])}, score: {scores[index]:#.6g}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if bool(args.input_file) == bool(args.dataset_filelist):
        raise UsageError("one of --input_file (an image) and --dataset_filelist (a list of them) is needed, not both")
    if bool(args.dataset_filelist) != bool(args.dataset_output_file):
        raise UsageError("--dataset_filelist and --dataset_output_file go together")
    for option in ("dataset_root", "restart"):
        if getattr(args, option) and not args.dataset_filelist:
            raise UsageError(f"--{option} goes with --dataset_filelist")
    if args.strings is not None and (args.label_file or args.npz_files_path):
        raise UsageError("--strings does not go with --label_file or --npz_files_path: both give the labels")
    if args.npz_files_path and not args.label_file:
        raise UsageError("--npz_files_path needs --label_file, whose names say which token files are the labels")


def _classify(args: argparse.Namespace) -> int:
    """Write the best five of every image of the list, or resume where an earlier run stopped."""
    from clipworks.cli import options
    from clipworks.cli.progress import ProgressLine
    from clipworks.cli.terminal import show_text
    from clipworks.datasets.listing import read_dataset
    from clipworks.interrupts import keeping
    from clipworks.results.formats import read_results
    from clipworks.results.journal import check_target, manifest_path
    from clipworks.tasks.classify import Classes, classify
    from clipworks.tasks.runs import RunOptions
    from clipworks.vendor_sample.towers import choose_labels, open_towers

    output = args.dataset_output_file
    if not args.restart:
        check_target(output)
    options.recall_choice(args, Path(manifest_path(output)))
    labels = choose_labels(args)
    images = read_dataset(args.dataset_filelist, root=args.dataset_root or None)
    with ProgressLine("images") as line, open_towers(args) as towers:
        classifier = towers.embed_labels(labels, args.npz_files_path or None)
        with keeping() as stop:
            run_options = RunOptions(
                format="text",
                restart=args.restart,
                report=lambda now: line.count(now.done, now.total, before=now.before),
                stop=stop,
            )
            classes = Classes(labels=labels, templates=("{}",), top=_TOP)  # the sample's texts are the labels as given
            progress = classify(towers.image, images, classes, classifier, output, run_options)
    if not progress.whole:
        done = f"{progress.done:,} of {progress.total:,} images"
        print(f"{output}: stopped after {done}; the same command resumes there", file=sys.stderr)
        return 130
    if progress.before == progress.total:
        arguments.notify(args, f"{output} is complete already: nothing was done (--restart starts over)")
    if progress.failed:
        errors = (record.error for record in read_results(output) if record.error is not None)
        for error in itertools.islice(errors, _SHOWN_ERRORS):
            print(f"clip_sample: {show_text(error)}", file=sys.stderr)
        raise ImageError(
            f"{progress.failed:,} of {progress.total:,} images could not be read; their lines in {output} say why"
        )
    return 0
