"""``clipworks models export`` and ``import``: a bundle in one file, from one machine to another."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli.bundles import NAME, describe_bundle, print_bundle
from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import show_text
from clipworks.endings import check_folder_name, check_writable, choose_by_ending
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.bundle.card import Card

EXPORT_OPTIONS = {
    "NAME": NAME,
    "-o --output FILE:output (required)": "the file to write, .tar",
}
IMPORT_OPTIONS = {
    "FILE": "a file that clipworks models export has written",
    "-o --output BUNDLE:output": "the folder to write (default: the model's own place in the cache)",
    "--force": "replace the model if it is here already",
}


def run_export(args: argparse.Namespace) -> int:
    """Export, print, and return 0."""
    from clipworks.store.archives import ENDING, pack_bundle
    from clipworks.store.listing import find_bundle

    choose_by_ending(args.output, {"tar": (ENDING,)}, default="tar")
    check_writable(args.output)
    bundle = find_bundle(args.name)
    if bundle is None:
        raise UsageError(f"{args.name} is not here", hint=f"clipworks models pull {args.name}")
    written = pack_bundle(bundle, Path(args.output))
    if args.json:
        facts = describe_bundle(bundle.card, bundle.folder)
        print_json({"output": args.output, **dataclasses.asdict(written), **facts})
    else:
        print(f"{written.sha256}  {show_text(args.output)}")  # as sha256sum writes it, and reads it with -c
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Import, print, and return 0."""
    from clipworks import interrupts
    from clipworks.convert.conversion import new_folder
    from clipworks.store.archives import read_archived_card, unpack_bundle

    file = Path(args.file)
    if args.output is None:
        output = _choose_place(read_archived_card(file))
    else:
        check_folder_name(args.output, holds="a bundle")
        output = Path(args.output)
    check_writable(str(output), parents=True)
    with interrupts.raising(), new_folder(output, overwrite=args.force) as folder:
        bundle = unpack_bundle(file, folder)
    print_bundle(dataclasses.replace(bundle, folder=output), as_json=args.json)
    return 0


def _choose_place(card: Card) -> Path:
    """Where the cache keeps a model of this name."""
    from clipworks.store.known import find_target, models_folder

    try:
        return models_folder() / find_target(card.name).key
    except UsageError:
        raise UsageError(
            f"the model's name is {card.name}, which is no known name and no hub id: the cache has no place for it",
            hint="-o FOLDER writes it to a folder, which --model takes",
        ) from None
