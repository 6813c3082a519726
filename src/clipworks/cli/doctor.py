"""Find where a pipeline's scores begin to differ from a reference's: decode, crop, tokens, a layer, the logit scale."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.cli.terminal import print_result
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.doctor.dumps import Dump
    from clipworks.doctor.pipelines import Inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks doctor``."""
    options.add_model_options(parser)
    group = parser.add_argument_group("reference: what it is compared with")
    rows = {
        "--reference WHAT": "equations: those of the model's own weights, in float64 (the default); a checkpoint's "
        "folder or file; another model; or a dump, FILE.npz",
        "--reference-runtime R": "the reference is a model on this runtime (alone: the same model)",
        "--reference-device D": "its device",
        "--reference-precision P": "its precision (default: f32), or that of a dump",
        "--reference-config FILE": "a checkpoint's configuration, where not beside it",
    }
    kinds.add_options(group, rows)
    what = parser.add_argument_group("images and texts (default: two photographs and three texts that come with it)")
    rows = {
        "--images FILE ...": "images; of a dump, those that it was made from",
        "--texts TEXT ...": "texts; those that are too long are cut",
        "--texts-file FILE": kinds.TEXTS_FILE,
        "--encoding E": kinds.ENCODING,
    }
    kinds.add_options(what, rows)
    options.add_image_options(parser)
    rows = {
        "--tolerance NAME=N ...": "tolerances of your own: of a stage (image_layer_3=0.01), or of all of a kind "
        "(values=0.01)",
        "--dump FILE": "write the model's own stages to this .npz file",
    }
    kinds.add_options(parser, rows)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, print, and return 0 for a healthy pipeline, 1 for one that differs."""
    from clipworks.cli.progress import ProgressLine
    from clipworks.doctor.diagnosing import diagnose
    from clipworks.doctor.dumps import SUFFIX, write_dump
    from clipworks.doctor.references import ReferenceRequest
    from clipworks.doctor.stages import parse_tolerances
    from clipworks.report.diagnosis import show_diagnosis
    from clipworks.store import open_bundle

    if args.dump is not None and Path(args.dump).suffix != SUFFIX:
        raise UsageError(f"--dump is {args.dump!r}; allowed: a file whose name ends in {SUFFIX}")
    tolerances = parse_tolerances(args.tolerance or ())
    runtime_options = options.read_runtime_options(args, cache=False)  # nothing of an earlier run is taken
    request = ReferenceRequest(
        what=args.reference,
        config=None if args.reference_config is None else Path(args.reference_config),
        runtime=args.reference_runtime,
        device=args.reference_device,
        precision=args.reference_precision,
        options=runtime_options,
        offline=args.offline,
    )
    with ProgressLine() as line:
        diagnosis, dump = diagnose(
            open_bundle(args.model, offline=args.offline, progress=line.show),
            runtime_options,
            lambda dump: _choose_inputs(args, dump),
            request=request,
            tolerances=tolerances,
            tell=line.show,
        )
    print_result(diagnosis, lambda: show_diagnosis(diagnosis), as_json=args.json)
    if args.dump is not None:
        write_dump(Path(args.dump), dump)
    return 0 if diagnosis.verdict == "healthy" else 1


def _choose_inputs(args: argparse.Namespace, dump: Dump | None) -> Inputs:
    """Images and texts: those that were given; else those that the dump names; else built-in ones."""
    from clipworks.doctor.inputs import TEXTS, list_images
    from clipworks.doctor.pipelines import Inputs

    texts = kinds.read_texts(args.texts, args.texts_file, args.encoding)
    chosen = args.images or (dump.images if dump else ()) or list_images()
    words = texts or (dump.texts if dump else ()) or TEXTS
    return Inputs(images=tuple(chosen), texts=tuple(words), options=options.read_image_options(args))
