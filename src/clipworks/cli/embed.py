"""Embed a data set into a folder. The same command goes on where an earlier run stopped, however it ended."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipworks.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks embed``."""
    options.add_dataset_options(parser)
    parser.add_argument(
        "-o", "--output", type=options.output_name, required=True, metavar="FOLDER", help="where the embeddings go"
    )
    parser.add_argument(
        "--format",
        choices=("npy", "parquet"),
        help="npy: embeddings.npy and records.jsonl (the default); parquet: embeddings.parquet",
    )
    options.add_json_option(parser)
    options.add_engine_options(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Embed, say how it went, and return 0, 1 with --strict and errors, or 130 for a run that was stopped."""
    from clipworks.cli.classify import conclude
    from clipworks.cli.progress import Bar, stopping
    from clipworks.datasets.listing import read_dataset
    from clipworks.endings import check_folder_name
    from clipworks.tasks.embed import HOLDS, MANIFEST, embed

    options.check_engine_options(args)
    images = options.read_image_options(args)
    if args.engine == "ray":
        from clipworks.cli.distributed import run_request

        return run_request(args, None)
    check_folder_name(args.output, holds=HOLDS[args.format or "npy"])
    dataset = read_dataset(args.source, root=args.root)
    options.report_left_out(dataset.left_out, args.source)
    options.recall_choice(args, Path(args.output) / MANIFEST)
    bar = Bar("images")
    with options.load_model(args, images=images, towers=("image",), streams=None) as model, stopping() as stop:
        decoder = options.open_decoder(args, model)
        progress = embed(
            model,
            dataset,
            args.output,
            batch_size=args.batch_size,
            workers=args.workers,
            decoder=decoder,
            format=args.format or "npy",
            restart=args.restart,
            report=lambda now: bar.show(now.done, now.total, before=now.before),
            stop=stop,
        )
    bar.clear()
    options.report_decoder(decoder)
    return conclude(progress, args)
