"""List, pull, verify and convert models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from clipworks import interrupts
from clipworks.cli import kinds, options
from clipworks.cli.bundles import NAME, describe_bundle, print_bundle
from clipworks.cli.json_output import print_json
from clipworks.cli.models_carry import EXPORT_OPTIONS, IMPORT_OPTIONS, run_export, run_import
from clipworks.cli.models_convert import CONVERT_OPTIONS, VERIFY_OPTIONS, run_convert, run_verify
from clipworks.cli.parsers import SubcommandParser
from clipworks.cli.terminal import print_document, show_text
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.store.listing import ListedModel


class Action(NamedTuple):
    """One row of the table of subcommands."""

    summary: str
    options: Mapping[str, str]  # see `clipworks.cli.kinds.add_options`
    run: Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands of ``clipworks models``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=SubcommandParser)
    for name, action in ACTIONS.items():
        one = actions.add_parser(name, help=action.summary, description=action.summary, allow_abbrev=False)
        kinds.add_options(one, action.options)
        options.add_json_option(one)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return its exit status."""
    return ACTIONS[args.action].run(args)


def _list(args: argparse.Namespace) -> int:
    from clipworks.store.listing import list_models, list_refused

    if args.here and args.all:
        raise UsageError("--here and --all are given; allowed: one of them")
    models = [model for model in list_models() if model.folder is not None or not args.here]
    models += list_refused() if args.all else []
    if args.json:
        print_json(models)
        return 0
    columns: dict[str, Callable[[ListedModel], str]] = {
        "name": lambda model: show_text(model.name),
        "state": lambda model: model.state,
        "parameters": lambda model: f"{model.parameters / 1e6:.0f} M" if model.parameters else "-",
        "pixels": lambda model: str(model.image_size or "-"),
        "ImageNet top-1": lambda model: f"{model.imagenet_top1:.1%}" if model.imagenet_top1 else "-",
        "licence": lambda model: show_text(model.licence),
    }
    if args.all:
        columns["refused because"] = lambda model: model.why or "-"
    if sys.stdout.isatty():
        from clipworks.report.document import Document, Section
        from clipworks.report.tables import tabulate

        table = tabulate("", models, tuple(columns.items()), spare=("licence", "pixels"))
        print_document(Document(title="", sections=(Section(items=(table,)),)))
    else:
        for model in models:
            print("\t".join(read(model) for read in columns.values()))
    return 0


def _info(args: argparse.Namespace) -> int:
    from clipworks.store.listing import find_bundle

    bundle = find_bundle(args.name)
    facts = _describe_known(args.name) if bundle is None else describe_bundle(bundle.card, bundle.folder)
    if args.json:
        print_json(facts)
        return 0
    lines = [(name, line) for name, value in facts.items() for line in (value if isinstance(value, list) else [value])]
    rows = tuple((name, text) for name, line in lines if (text := _describe_value(line)))
    if sys.stdout.isatty():
        from clipworks.report.document import Document, FactList, Section

        print_document(Document(title="", sections=(Section(items=(FactList(rows=rows),)),)))
        return 0
    width = max(map(len, facts)) + 2
    for name, text in rows:
        print(f"{name:<{width}}{show_text(text)}")
    return 0


def _describe_known(name: str) -> dict[str, Any]:
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


def _pull(args: argparse.Namespace) -> int:
    from clipworks.cli.progress import ProgressLine
    from clipworks.store.pulling import pull_model

    check = not args.no_check
    with interrupts.raising(), ProgressLine() as line:
        bundle = pull_model(args.name, offline=args.offline, force=args.force, check=check, progress=line.show)
    print_bundle(bundle, as_json=args.json)
    return 0


def _remove(args: argparse.Namespace) -> int:
    from clipworks.store.listing import remove_model

    folder = remove_model(args.name)
    if args.json:
        print_json({"name": args.name, "removed": str(folder)})
    else:
        print(f"removed\t{show_text(str(folder))}")
    return 0


_LIST_OPTIONS = {
    "--here": "only those that can be used without a download",
    "--all": "those that are refused too, with the reason",
}
_PULL_OPTIONS = {
    "NAME": NAME,
    "--force": "download and convert again",
    "--no-check": "leave out the comparison with the checkpoint",
    "--offline": "never ask a model hub",
}
ACTIONS = {
    "list": Action("list the built-in model, the known ones and what else is in the cache", _LIST_OPTIONS, _list),
    "info": Action("show all that is known of a model", {"NAME": NAME}, _info),
    "pull": Action("download a model, convert it once, check it and keep it in the cache", _PULL_OPTIONS, _pull),
    "verify": Action("check a bundle's files, and its embeddings against its checkpoint", VERIFY_OPTIONS, run_verify),
    "convert": Action("turn a checkpoint into a bundle", CONVERT_OPTIONS, run_convert),
    "export": Action("write a bundle into one file, to carry it to another machine", EXPORT_OPTIONS, run_export),
    "import": Action("take a bundle in from such a file", IMPORT_OPTIONS, run_import),
    "remove": Action("take a pulled model out of the cache", {"NAME": NAME}, _remove),
}
