"""List, pull, verify and convert models."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipworks.cli import options
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.bundle import Bundle
    from clipworks.cards import Card
    from clipworks.store.listing import ListedModel


class Action(NamedTuple):
    """One row of the table of subcommands."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands of ``clipworks models``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, action in ACTIONS.items():
        one = actions.add_parser(name, help=action.summary, description=action.summary, allow_abbrev=False)
        action.add_arguments(one)
        options.add_json_option(one)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return its exit status."""
    return ACTIONS[args.action].run(args)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--here", action="store_true", help="only those that can be used without a download")


def _list(args: argparse.Namespace) -> int:
    import dataclasses

    from clipworks.store.listing import list_models

    models = [model for model in list_models() if model.folder is not None or not args.here]
    if args.json:
        _print_json([dataclasses.asdict(model) for model in models])
        return 0
    rows = [("name", "state", "parameters", "pixels", "ImageNet top-1", "licence"), *map(_list_row, models)]
    if not sys.stdout.isatty():
        for row in rows[1:]:
            print("\t".join(row))
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _list_row(model: ListedModel) -> tuple[str, ...]:
    return (
        model.name,
        model.state,
        f"{model.parameters / 1e6:.0f} M" if model.parameters else "-",
        str(model.image_size or "-"),
        f"{model.imagenet_top1:.1%}" if model.imagenet_top1 else "-",
        model.licence,
    )


def _add_info(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)


def _info(args: argparse.Namespace) -> int:
    from clipworks.store.listing import find_bundle

    bundle = find_bundle(args.name)
    facts = _describe_known(args.name) if bundle is None else _describe_bundle(bundle.card, bundle.folder)
    if args.json:
        _print_json(facts)
        return 0
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            if text := _describe_value(line):
                print(f"{name:<{width}}{text}")
    return 0


def _describe_bundle(card: Card, folder: Path) -> dict[str, Any]:
    from clipworks.bundle import card_hash
    from clipworks.cards import card_to_json

    return {"folder": str(folder), "card_sha256": card_hash(card), **json.loads(card_to_json(card))}


def _describe_known(name: str) -> dict[str, Any]:
    import dataclasses

    from clipworks.store.known import find_known

    known = find_known(name)
    if known is None:
        raise UsageError(f"{name} is not here, and nothing is known of it", hint=f"clipworks models pull {name}")
    facts = {key: value for key, value in dataclasses.asdict(known).items() if value not in (None, (), {})}
    return json.loads(json.dumps({"folder": None, **facts, "parameters": known.parameters}))  # type: ignore[no-any-return]


def _describe_value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_describe_value(item)}" for name, item in value.items() if item not in (None, {}))
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not here" if value is None else str(value)


def _add_pull(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--force", action="store_true", help="bring it here again, though it is here")
    parser.add_argument("--no-check", action="store_true", help="leave out the comparison with the checkpoint")
    parser.add_argument("--offline", action="store_true", help="never ask a model hub")


def _pull(args: argparse.Namespace) -> int:
    from clipworks.store.pulling import pull_model

    with _progress() as show:
        bundle = pull_model(args.name, offline=args.offline, force=args.force, check=not args.no_check, progress=show)
    _print_bundle(bundle, as_json=args.json)
    return 0


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument(
        "--against", metavar="CHECKPOINT", help="compare the embeddings with those of this checkpoint's equations too"
    )
    parser.add_argument(
        "--images", type=options.at_least(1), default=2, metavar="N", help="pictures to compare (default: 2)"
    )


def _verify(args: argparse.Namespace) -> int:
    import dataclasses

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
        _print_json(report)
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


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a checkpoint's folder, or its file of weights")
    parser.add_argument("-o", "--output", metavar="BUNDLE", required=True, help="the folder to write")
    parser.add_argument("--name", metavar="NAME", help="the model's name (default: the output folder's)")
    parser.add_argument(
        "--config", metavar="FILE", help="the checkpoint's configuration, where it is not beside the weights"
    )
    parser.add_argument("--force", action="store_true", help="replace the output folder if it exists")


def _convert(args: argparse.Namespace) -> int:
    from clipworks.convert import convert_checkpoint

    bundle = convert_checkpoint(
        Path(args.source),
        Path(args.output),
        name=args.name,
        config=Path(args.config) if args.config else None,
        overwrite=args.force,
    )
    _print_bundle(bundle, as_json=args.json)
    return 0


def _print_bundle(bundle: Bundle, *, as_json: bool) -> None:
    if as_json:
        _print_json(_describe_bundle(bundle.card, bundle.folder))
    else:
        print(f"{bundle.card.name}\t{bundle.folder}")


def _add_remove(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)


def _remove(args: argparse.Namespace) -> int:
    from clipworks.store.listing import remove_model

    folder = remove_model(args.name)
    if args.json:
        _print_json({"name": args.name, "removed": str(folder)})
    else:
        print(f"removed\t{folder}")
    return 0


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a known name, a hub id (owner/name) or a bundle's folder")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Draw one line of progress where someone watches, and take it away at the end."""
    from clipworks.cli.progress import ProgressLine

    line = ProgressLine()
    try:
        yield line.show
    finally:
        line.clear()


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


ACTIONS = {
    "list": Action("list the built-in model, the known ones and what else is in the cache", _add_list, _list),
    "info": Action("show all that is known of a model", _add_info, _info),
    "pull": Action("download a model, convert it once, check it and keep it in the cache", _add_pull, _pull),
    "verify": Action("check a bundle's files, and its embeddings against its checkpoint", _add_verify, _verify),
    "convert": Action("turn a checkpoint into a bundle", _add_convert, _convert),
    "remove": Action("take a pulled model out of the cache", _add_remove, _remove),
}
