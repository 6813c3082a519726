"""The two models of the sample's command line: one bundle, or an image and a text tower of two that belong together."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipworks import scoring, store
from clipworks.bundle.files import card_hash
from clipworks.cli import options
from clipworks.errors import TextError, UsageError
from clipworks.model import Model
from clipworks.options import ImageOptions
from clipworks.text.files import read_lines
from clipworks.text.prompts import LABEL_SETS, Labels, read_labels
from clipworks.vendor_sample import arguments

SYNSETS = "imagenet-synsets"


@dataclass(frozen=True, kw_only=True)
class Towers:
    """The models that embed images and texts, which may be one."""

    image: Model
    text: Model

    def embed_labels(self, labels: Labels, token_files: str | None) -> scoring.Floats:
        """Embed labels as float32 unit rows ``[labels, dim]``, from their texts or from a folder of token files.

        Labels of one name get the same row to the last bit, so that they tie.
        """
        places = {name: place for place, name in enumerate(dict.fromkeys(labels.names))}
        names = list(places)
        try:
            rows = self.text.embed_texts(names) if token_files is None else self._embed_files(names, Path(token_files))
        except TextError as error:
            raise TextError(error.message.replace("texts[", "labels[", 1)) from None
        return rows[[places[name] for name in labels.names]]

    def _embed_files(self, names: list[str], folder: Path) -> scoring.Floats:
        from clipworks.text.clip_vocabulary import built_in_vocabulary
        from clipworks.vendor_sample.token_files import read_token_files, spell

        rows, text = read_token_files(names, folder), self.text.card.text
        if text.tokenizer != "clip" or text.vocabulary != len(built_in_vocabulary().ids):
            return self.text.embed_texts(spell(rows))  # another vocabulary: the text says what the ids mean
        for name, row in zip(names, rows, strict=True):
            if len(row) > text.context:
                raise TextError(f"the label {name!r} has {len(row)} tokens; the model takes at most {text.context}")
        return self.text.embed_tokens(rows)


# The sample reads images with cv2.imread, which drops alpha: before the resize, whatever the model's card says.
_AS_OPENCV = ImageOptions(alpha="before")


@contextlib.contextmanager
def open_towers(args: argparse.Namespace) -> Iterator[Towers]:
    """Open what ``--imgmod_prefix`` and ``--txtmod_prefix`` name; one that is not given is that of the other.

    Raises:
        UsageError: one is no model, scores by a sigmoid, or the two models' embeddings have different widths.
    """
    given = (args.imgmod_prefix, "--imgmod_prefix"), (args.txtmod_prefix, "--txtmod_prefix")
    names = [arguments.find_model(*(pair if pair[0] else other)) for pair, other in (given, given[::-1])]
    bundles = [store.open_bundle(name) for name in dict.fromkeys(names)]
    first, last = bundles[0].card, bundles[-1].card
    if first.dim != last.dim:
        raise UsageError(
            f"--imgmod_prefix {args.imgmod_prefix} has embeddings of width {first.dim}, --txtmod_prefix "
            f"{args.txtmod_prefix} of width {last.dim}; allowed: two towers of one model"
        )
    if first.score.kind != "softmax":
        raise UsageError(
            f"{first.name} scores each text by itself, by a sigmoid; allowed: models whose scores are a softmax over "
            "the labels, as the sample's are",
            hint="clipworks classify runs this model",
        )
    if card_hash(first) != card_hash(last):
        arguments.notify(
            args,
            f"the image tower is of {first.name} and the text tower of {last.name}: scores mean something only if the "
            "two were trained together",
        )
    streams = None if args.dataset_filelist else 1
    runtime = options.read_runtime_options(args, device=args.device_id.strip("[] "), streams=streams)
    if len(bundles) == 1:
        with Model(bundles[0], runtime, _AS_OPENCV) as whole:
            yield Towers(image=whole, text=whole)
    else:
        with (
            Model(bundles[0], runtime, _AS_OPENCV, towers=("image",)) as images,
            Model(bundles[1], runtime, _AS_OPENCV, towers=("text",)) as texts,
        ):
            yield Towers(image=images, text=texts)


def choose_labels(args: argparse.Namespace) -> Labels:
    """The labels of ``--label_file``, one a line as it stands there, or of ``--strings``.

    Without either a list of images takes ImageNet's synset strings, as the sample for Python does, and one image the
    sample's three strings.
    """
    if args.label_file:
        return read_label_file(args.label_file)
    if args.dataset_filelist and args.strings is None:
        return read_labels(SYNSETS)
    strings = arguments.STRINGS if args.strings is None else args.strings
    return Labels(name="--strings", names=tuple(arguments.read_list(strings, "--strings")))


def read_label_file(source: str) -> Labels:
    """Labels of a file, each line as it stands there, or of a label set that comes with clipworks."""
    if source in LABEL_SETS and not Path(source).exists():
        return read_labels(source)
    return Labels(name=source, names=tuple(read_lines(source)))
