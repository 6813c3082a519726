"""Write the token file of each label, as the vendor's CLIP sample for C++ reads them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from clipworks.cli import kinds
from clipworks.vendor_sample import arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``make_input_npz``; see `clipworks.cli.main` for the arguments and the exit status."""
    return arguments.run_command("make_input_npz", __doc__, add_arguments, _run, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sample's options."""
    rows = {
        "--label_file FILE (required)": arguments.LABEL_FILE,
        "--npz_files_path FOLDER (required)": "where <label>.npz go: input_0 to input_5, int32 [80]: the ids, zeros, "
        "zeros, the mask, zeros, zeros",
    }
    kinds.add_options(parser, rows)


def _run(_: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    from clipworks.vendor_sample.token_files import INDEX, write_token_files
    from clipworks.vendor_sample.towers import read_label_file

    labels = read_label_file(args.label_file).names
    renamed = write_token_files(labels, Path(args.npz_files_path))
    if renamed:
        what = "1 label cannot have a file" if renamed == 1 else f"{renamed:,} labels cannot have files"
        arguments.notify(args, f"{what} of that name; {INDEX} says which is theirs")
    return 0
