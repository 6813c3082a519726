"""``clipworks models convert`` and ``verify``: from a checkpoint to a bundle, and the proof that they agree."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipworks.cli import options
from clipworks.cli.bundles import add_name, print_bundle, print_json
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.cards import Card


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks models verify``."""
    add_name(parser)
    parser.add_argument(
        "--against", metavar="CHECKPOINT", help="compare the embeddings with those of this checkpoint's equations too"
    )
    parser.add_argument(
        "--images", type=options.at_least(1), default=2, metavar="N", help="pictures to compare (default: 2)"
    )


def run_verify(args: argparse.Namespace) -> int:
    """Verify, print, and return 0 or 1."""
    from clipworks.bundle import verify_bundle
    from clipworks.store.listing import find_bundle

    bundle = find_bundle(args.name)
    if bundle is None:
        raise UsageError(f"{args.name} is not here", hint=f"clipworks models pull {args.name}")
    verify_bundle(bundle)
    report: dict[str, Any] = {"name": bundle.card.name, "folder": str(bundle.folder), "files": len(bundle.card.files)}
    equal = True
    if args.against:
        from clipworks.convert import compare_with_checkpoint

        result = compare_with_checkpoint(bundle, Path(args.against), images=args.images)
        equal = result.equal
        report |= {**dataclasses.asdict(result), "equal": equal}
    if args.json:
        print_json(report)
    else:
        print(f"{report['name']}: {report['files']} files have the SHA-256 that the card records")
        if args.against:
            differences = f"image {report['image_difference']:.1e}, text {report['text_difference']:.1e}"
            granted = f"{report['runtime']}, {report['device']}, {report['precision']}"
            verdict = "equal" if equal else "NOT EQUAL"
            print(
                f"largest difference of unit embeddings: {differences}; allowed: {report['limit']:.0e} "
                f"({granted}): {verdict}"
            )
    return 0 if equal else 1


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks models convert``."""
    parser.add_argument("source", metavar="SOURCE", help="a checkpoint's folder, or its file of weights")
    parser.add_argument("-o", "--output", metavar="BUNDLE", required=True, help="the folder to write")
    parser.add_argument("--name", metavar="NAME", help="the model's name (default: the output folder's)")
    parser.add_argument(
        "--config", metavar="FILE", help="the checkpoint's configuration, where it is not beside the weights"
    )
    parser.add_argument(
        "--card", metavar="FILE", help="what the source does not say itself; ready-made ONNX towers need one"
    )
    parser.add_argument("--force", action="store_true", help="replace the output folder if it exists")


def run_convert(args: argparse.Namespace) -> int:
    """Convert, print, and return 0."""
    from clipworks.convert import adopt_towers, convert_checkpoint
    from clipworks.convert.adopt import has_towers

    source, output = Path(args.source), Path(args.output)
    card = _read_card(Path(args.card)) if args.card else None
    if has_towers(source):
        if card is None:
            raise UsageError(
                f"{source} holds ready-made ONNX towers, which do not say how to preprocess pictures or scale scores",
                hint="name a card: --card FILE; clipworks models info NAME --json shows what is in one",
            )
        bundle = adopt_towers(
            source, output, card=dataclasses.replace(card, name=args.name or card.name), overwrite=args.force
        )
    else:
        config = Path(args.config) if args.config else None
        bundle = convert_checkpoint(source, output, name=args.name, card=card, config=config, overwrite=args.force)
    print_bundle(bundle, as_json=args.json)
    return 0


def _read_card(path: Path) -> Card:
    from clipworks.cards import card_from_json
    from clipworks.errors import BundleError

    try:
        return card_from_json(path.read_text(encoding="utf-8"), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"the card {path} cannot be read: {error}") from None
