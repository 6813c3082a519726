"""Embed a data set into a folder. The same command resumes an earlier run, however it ended."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipworks.cli import kinds, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks embed``."""
    options.add_dataset_options(parser)
    rows = {
        "-o --output FOLDER:output (required)": "where the embeddings go",
        "--format npy|parquet": "npy: embeddings.npy and records.jsonl (the default); parquet: embeddings.parquet",
    }
    kinds.add_options(parser, rows)
    options.add_json_option(parser)
    options.add_ray_options(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Embed, say how it went, and return 0, 1 with --strict and errors, or 130 for a run that was stopped."""
    from clipworks.cli.runs import run_here
    from clipworks.endings import check_folder_name, check_writable
    from clipworks.results.formats import EMBEDDING_FORMATS
    from clipworks.tasks.embed import embed

    options.check_ray_options(args)
    images = options.read_image_options(args)
    if args.ray is not None:
        from clipworks.cli.ray import run_request

        return run_request(args, None)
    row = EMBEDDING_FORMATS[args.format or "npy"]
    check_folder_name(args.output, holds=row.folder or "")
    check_writable(args.output)
    options.recall_choice(args, Path(args.output + row.manifest))
    return run_here(
        args, images, lambda model: lambda dataset, run_options: embed(model, dataset, args.output, run_options)
    )
