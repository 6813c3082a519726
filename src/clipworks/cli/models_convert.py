"""``clipworks models convert`` and ``verify``: from a checkpoint to a bundle, and the proof that they agree."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipworks.cli.bundles import NAME, print_bundle
from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import show_text
from clipworks.endings import check_folder_name, check_writable
from clipworks.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from clipworks.bundle.card import Card
    from clipworks.bundle.files import Bundle

_CALIBRATION_IMAGES = 128
_VERIFIED_IMAGES = 2


VERIFY_OPTIONS = {
    "NAME": NAME,
    "--against CHECKPOINT": "compare the embeddings with those of this checkpoint's equations too",
    "--answers FOLDER": "images of known answers that do not come with clipworks, by the names that are asked for",
    "--images N>=1": f"with --against: images to compare (default: {_VERIFIED_IMAGES})",
}
CONVERT_OPTIONS = {
    "SOURCE": "a checkpoint's folder, its file of weights, a LoRA adapter's folder, a folder with ready-made ONNX "
    "towers, or, to add int8 towers to it, a model that is here",
    "-o --output BUNDLE:output (required)": "the folder to write",
    "--name NAME": "the model's name (default: the output folder's)",
    "--config FILE": "the checkpoint's configuration, where it is not beside the weights",
    "--base CHECKPOINT": "the checkpoint that a LoRA adapter is of (default: the folder that the adapter names)",
    "--card FILE": "what the source does not say itself; ready-made ONNX towers need one",
    "--precision f32|int8 = f32": "int8 adds int8 towers to the f32 ones",
    "--images FOLDER": f"for int8: images like those to come; {_CALIBRATION_IMAGES} are taken",
    "--force": "replace the output folder if it exists",
}


def run_verify(args: argparse.Namespace) -> int:
    """Verify, print, and return 0 or 1."""
    from clipworks.bundle.files import verify_bundle
    from clipworks.convert import check_answers, compare_with_checkpoint, describe_answers, list_missing
    from clipworks.store.listing import find_bundle

    if args.images is not None and not args.against:
        raise UsageError("--images goes with --against: without it no image is compared")
    bundle = find_bundle(args.name)
    if bundle is None:
        raise UsageError(f"{args.name} is not here", hint=f"clipworks models pull {args.name}")
    verify_bundle(bundle)
    folder = None if args.answers is None else Path(args.answers)
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--answers {folder} is not a folder")
    answers, missing = check_answers(bundle, images=folder), list_missing(bundle.card.answers, folder)
    report: dict[str, Any] = {"name": bundle.card.name, "folder": str(bundle.folder), "files": len(bundle.card.files)}
    report["answers"] = [{**dataclasses.asdict(answer), "right": answer.right} for answer in answers]
    report["missing_images"] = list(missing)
    name = show_text(bundle.card.name)
    said = [f"{name}: {report['files']} files have the SHA-256 that the card records"]
    if answers:
        said.append(f"{name} {describe_answers(answers)}")
    if missing:
        said.append(
            f"more answers are known of {', '.join(map(show_text, missing))}: --answers FOLDER says where that is"
        )
    right = all(answer.right for answer in answers)
    if args.against:
        result = compare_with_checkpoint(bundle, Path(args.against), images=args.images or _VERIFIED_IMAGES)
        report |= {**vars(result), "equal": result.equal}
        said.append(
            f"largest difference of unit embeddings: image {result.image_difference:.1e}, text "
            f"{result.text_difference:.1e}; allowed: {result.limit:.0e} ({result.runtime}, {result.device}, "
            f"{result.precision}): {'equal' if result.equal else 'NOT EQUAL'}"
        )
        right = right and result.equal
    if args.json:
        print_json(report)
    else:
        print("\n".join(said))
    return 0 if right else 1


def run_convert(args: argparse.Namespace) -> int:
    """Convert, print, and return 0."""
    if (args.precision == "int8") != (args.images is not None):
        raise UsageError("--precision int8 and --images FOLDER go together: int8 towers are made for images")
    check_folder_name(args.output, holds="a bundle")
    check_writable(args.output, parents=True)
    paths = _choose_images(args.images) if args.images else []
    from clipworks import interrupts
    from clipworks.convert import quantize_towers, require_answers
    from clipworks.convert.conversion import new_folder
    from clipworks.images.decode import load_batch

    output = Path(args.output)
    with interrupts.raising(), new_folder(output, overwrite=args.force) as folder:
        bundle = _make_bundle(args, folder)
        require_answers(bundle)
        if paths:
            bundle = quantize_towers(bundle, load_batch(paths, bundle.card.image))
    print_bundle(dataclasses.replace(bundle, folder=output), as_json=args.json)
    return 0


def _make_bundle(args: argparse.Namespace, folder: Path) -> Bundle:
    from clipworks.convert import adopt_towers, convert_checkpoint
    from clipworks.convert.adopt import find_towers
    from clipworks.runtimes import explain_int8

    source = Path(args.source)
    card = _read_card(Path(args.card)) if args.card else None
    name = args.name or (card.name if card else Path(args.output).name)
    here = _find_here(args.source)
    if here is not None:
        _refuse(args, "card", "a bundle, which has one")
        for option in ("config", "base"):
            _refuse(args, option, "a bundle, which needs none")
        if args.precision == "f32":
            raise UsageError(f"{args.source} is a bundle already", hint=explain_int8(here))
        shutil.copytree(here.folder, folder, dirs_exist_ok=True)
        renamed = dataclasses.replace(here.card, name=args.name or here.card.name)
        return dataclasses.replace(here, folder=folder, card=renamed)
    if find_towers(source) is None:
        config = Path(args.config) if args.config else None
        base = Path(args.base) if args.base else None
        return convert_checkpoint(source, folder, name=name, card=card, config=config, base=base, overwrite=True)
    for option in ("config", "base"):
        _refuse(args, option, "ready-made ONNX towers, which need none")
    if card is None:
        raise UsageError(
            f"{source} holds ready-made ONNX towers, which do not say how to preprocess images or scale scores",
            hint="name a card: --card FILE; clipworks models info NAME --json shows what is in one",
        )
    return adopt_towers(source, folder, card=dataclasses.replace(card, name=name), overwrite=True)


def _refuse(args: argparse.Namespace, option: str, what: str) -> None:
    if getattr(args, option):
        raise UsageError(f"--{option} does not go with {args.source}: it is {what}")


def _find_here(source: str) -> Bundle | None:
    """The bundle that the source is, by name or folder; None for a checkpoint."""
    from clipworks.bundle.files import CARD_FILE, read_bundle
    from clipworks.store.listing import find_bundle

    path = Path(source)
    if path.exists():
        return read_bundle(path) if (path / CARD_FILE).is_file() else None
    try:
        return find_bundle(source)
    except UnknownNameError:
        return None


def _choose_images(folder: str) -> list[str]:
    """Images for calibration, spread over all that are there."""
    from clipworks.datasets.listing import read_dataset

    files = [sample.file for sample in read_dataset(folder)]
    step = max(len(files) / _CALIBRATION_IMAGES, 1)
    return [files[int(number * step)] for number in range(min(len(files), _CALIBRATION_IMAGES))]


def _read_card(path: Path) -> Card:
    from clipworks.bundle.card_json import card_from_json
    from clipworks.errors import BundleError

    try:
        return card_from_json(path.read_text(encoding="utf-8"), origin=str(path))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; allowed: a card") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"the card {path} cannot be read: {error}") from None
