"""Embed a data set into a folder. The same command resumes an earlier run, however it ended."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipworks.cli import kinds, options
from clipworks.errors import UsageError
from clipworks.options import STREAM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks embed``."""
    options.add_dataset_options(parser)
    rows = {
        "-o --output FOLDER:stream (required)": "where the embeddings go; - for JSON lines on stdout",
        "--format npy|parquet": "npy: embeddings.npy and records.jsonl (the default); parquet: embeddings.parquet",
    }
    kinds.add_options(parser, rows)
    options.add_json_option(parser)
    options.add_ray_options(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Embed, say how it went, and return 0, 1 with --strict and errors, or 130 for a run that was stopped."""
    from clipworks.cli.runs import check_stdout, open_output, run_here
    from clipworks.endings import check_folder_name, check_writable
    from clipworks.results.formats import EMBEDDING_FORMATS
    from clipworks.tasks.embed import embed

    options.check_ray_options(args)
    check_stdout(args)
    images = options.read_image_options(args)
    if args.ray is not None:
        from clipworks.cli.ray import run_request

        return run_request(args, None)
    if args.output != STREAM:
        row = EMBEDDING_FORMATS[args.format or "npy"]
        check_folder_name(args.output, holds=row.folder or "")
        check_writable(args.output)
        options.recall_choice(args, Path(args.output + row.manifest))
    elif args.format is not None:
        raise UsageError(f"--format {args.format} goes with a folder; -o - prints JSON lines")
    output = open_output(args)
    return run_here(args, images, lambda model: lambda dataset, run_options: embed(model, dataset, output, run_options))
