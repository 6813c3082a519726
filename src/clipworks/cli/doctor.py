"""Find where a pipeline's scores begin to differ from a reference's: decode, crop, tokens, a layer, the logit scale."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.cli.terminal import print_result
from clipworks.endings import check_writable
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.doctor.dumps import Dump
    from clipworks.doctor.pipelines import Inputs
    from clipworks.doctor.vector_files import VectorFile
    from clipworks.doctor.vectors import VectorSource


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
        "--images FILE ...": "images; of a dump, those that it was made from; with --vectors also a folder or a list",
        "--texts TEXT ...": "texts; those that are too long are cut",
        "--texts-file FILE": kinds.TEXTS_FILE,
        "--encoding E": kinds.ENCODING,
    }
    kinds.add_options(what, rows)
    stored = parser.add_argument_group("stored vectors: how far they are from what the model gives, and why")
    rows = {
        "--vectors FILE": ".npy, .npz, .parquet or a folder of clipworks embed; of --images or texts, by the names in "
        "the file, else in their order (default: of the images that the file names)",
        "--root FOLDER": "the folder that names in the file, or in a list of images, are relative to",
        "--most N>=1 = 256": "vectors compared at most, evenly chosen",
    }
    kinds.add_options(stored, rows)
    options.add_image_options(parser)
    rows = {
        "--tolerance NAME=N ...": "tolerances of your own: of a stage (image_layer_3=0.01), or of all of a kind "
        "(values=0.01)",
        "--dump FILE": "write the model's own stages to this .npz file",
    }
    kinds.add_options(parser, rows)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, print, and return 0 for a healthy pipeline or the model's own vectors, 1 for what differs."""
    from clipworks.urls import is_url, refuse_url

    if url := next(filter(is_url, args.images or ()), None):
        raise refuse_url(url)
    if args.vectors is not None:  # an image that is not there is counted
        return _run_vectors(args)
    kinds.check_images(args.images or ())
    if args.root is not None:
        raise UsageError(f"--root {args.root} goes with --vectors")
    from clipworks.cli.progress import ProgressLine
    from clipworks.doctor.diagnosing import diagnose
    from clipworks.doctor.dumps import SUFFIX, write_dump
    from clipworks.doctor.references import ReferenceRequest
    from clipworks.doctor.stages import parse_tolerances
    from clipworks.report.diagnosis import show_diagnosis
    from clipworks.store import open_bundle

    if args.dump is not None and Path(args.dump).suffix != SUFFIX:
        raise UsageError(f"--dump is {args.dump!r}; allowed: a file whose name ends in {SUFFIX}")
    if args.dump is not None:
        check_writable(args.dump)
    tolerances = parse_tolerances(args.tolerance or ())
    texts = kinds.read_texts(args.texts, args.texts_file, args.encoding)
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
            lambda dump: _choose_inputs(args, texts, dump),
            request=request,
            tolerances=tolerances,
            tell=line.show,
        )
    print_result(diagnosis, lambda: show_diagnosis(diagnosis), as_json=args.json)
    if args.dump is not None:
        write_dump(Path(args.dump), dump)
    return 0 if diagnosis.verdict == "healthy" else 1


def _choose_inputs(args: argparse.Namespace, texts: list[str], dump: Dump | None) -> Inputs:
    """Images and texts: those that were given; else those that the dump names; else built-in ones."""
    from clipworks.doctor.inputs import TEXTS, list_images
    from clipworks.doctor.pipelines import Inputs

    chosen = args.images or (dump.images if dump else ()) or list_images()
    words = texts or (dump.texts if dump else ()) or TEXTS
    return Inputs(images=tuple(chosen), texts=tuple(words), options=options.read_image_options(args))


def _run_vectors(args: argparse.Namespace) -> int:
    from clipworks.cli.progress import ProgressLine
    from clipworks.doctor.stages import parse_tolerances
    from clipworks.doctor.vector_files import read_vectors
    from clipworks.doctor.vectors import check_vectors
    from clipworks.report.vectors import show_vectors
    from clipworks.store import expand_home, open_bundle

    for name in ("reference", "reference_runtime", "reference_device", "reference_precision", "dump"):
        if getattr(args, name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} does not go with --vectors: the reference is the model itself"
            )
    tolerances = parse_tolerances(args.tolerance or ())
    stored = read_vectors(expand_home(args.vectors))
    source = _find_source(args, stored)
    with ProgressLine() as line:
        found = check_vectors(
            open_bundle(args.model, offline=args.offline, progress=line.show),
            options.read_runtime_options(args),
            stored,
            source,
            most=args.most,
            tolerances=tolerances,
            tell=line.show,
        )
    print_result(found, lambda: show_vectors(found), as_json=args.json)
    return 0 if found.verdict == "same" else 1


def _find_source(args: argparse.Namespace, stored: VectorFile) -> VectorSource:
    """What vectors are of: the images or texts that were given, else what their file names."""
    from clipworks.datasets.listing import read_dataset
    from clipworks.datasets.names import SUFFIXES
    from clipworks.doctor.vectors import VectorSource

    texts = kinds.read_texts(args.texts, args.texts_file, args.encoding)
    if texts and args.images:
        raise UsageError("--images and texts are given; the vectors of a file are of one of them")
    if texts or (stored.of_texts and not args.images):
        words = tuple(texts or stored.names)
        return VectorSource(role="text", names=words, files=words)
    named = [] if args.images else list(stored.names)
    if not named and not args.images:
        raise UsageError(
            f"{stored.path} does not say what its vectors are of", hint="--images, --texts or --texts-file says it"
        )
    names, files = [], []
    for word in args.images or ():
        if Path(word).is_dir() or Path(word).suffix.lower() not in SUFFIXES:
            for sample in read_dataset(word, root=None if Path(word).is_dir() else args.root):
                names.append(sample.path)
                files.append(sample.file)
        else:
            named.append(word)
    names += named
    files += [os.path.join(args.root or "", name) for name in named]  # noqa: PTH118  # a name may be a URL
    return VectorSource(role="image", names=tuple(names), files=tuple(files), options=options.read_image_options(args))
