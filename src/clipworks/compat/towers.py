"""The two models of the sample's command line: one bundle, or an image and a text tower of two that belong together."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipworks import scoring, store
from clipworks.bundle import card_hash
from clipworks.compat import arguments
from clipworks.errors import UsageError
from clipworks.model import Model
from clipworks.prompts import read_lines


@dataclass(frozen=True, kw_only=True)
class Towers:
    """The models that embed pictures and texts, which may be one."""

    image: Model
    text: Model

    def embed_labels(self, args: argparse.Namespace) -> tuple[list[str], scoring.Floats]:
        """The labels' names and their unit rows, float32 ``[labels, dim]``, from texts or from token files."""
        names = _read_names(args)
        # Each different label once: equal ones must get equal scores to the last bit, or they would not tie.
        places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        return names, self._embed(list(places), args.npz_files_path)[[places[name] for name in names]]

    def _embed(self, names: list[str], folder: str | None) -> scoring.Floats:
        if folder is None:
            return self.text.embed_texts(names)
        from clipworks.compat.token_files import read_token_files, spell

        rows = read_token_files(names, Path(folder))
        if self.text.card.text.cleaning == "clip":
            return self.text.embed_tokens(rows)
        return self.text.embed_texts(spell(rows))  # another vocabulary: the text says what the ids mean

    def score(self, images: scoring.Floats, texts: scoring.Floats) -> npt.NDArray[np.float64]:
        """Softmax over the labels, float64 ``[images, labels]``."""
        return scoring.softmax(scoring.compare(images, texts), self.image.card.logit_scale)


@contextlib.contextmanager
def open_towers(args: argparse.Namespace) -> Iterator[Towers]:
    """Open what ``--imgmod_prefix`` and ``--txtmod_prefix`` name.

    Raises:
        UsageError: the two models' embeddings have different widths.
    """
    image = arguments.find_model(args.imgmod_prefix or args.txtmod_prefix)
    text = arguments.find_model(args.txtmod_prefix or args.imgmod_prefix)
    bundles = [store.open_bundle(name) for name in dict.fromkeys((image, text))]
    first, last = bundles[0].card, bundles[-1].card
    if first.dim != last.dim:
        raise UsageError(
            f"--imgmod_prefix {image} has embeddings of width {first.dim}, --txtmod_prefix {text} of {last.dim}; "
            "allowed: two towers of one model"
        )
    if card_hash(first) != card_hash(last):
        print(
            f"the image tower is of {first.name} and the text tower of {last.name}: scores mean something only if the "
            "two were trained together",
            file=sys.stderr,
        )
    with contextlib.ExitStack() as stack:

        def enter(place: int, *towers: str) -> Model:
            model = Model(
                bundles[place],
                runtime=args.runtime,
                device=args.device_id.strip("[] "),
                precision=args.precision,
                threads=args.threads,
                towers=towers,  # type: ignore[arg-type]  # image and text, as written below
            )
            return stack.enter_context(model)

        if len(bundles) == 1:
            whole = enter(0, "image", "text")
            yield Towers(image=whole, text=whole)
        else:
            yield Towers(image=enter(0, "image"), text=enter(1, "text"))


def _read_names(args: argparse.Namespace) -> list[str]:
    if args.label_file:
        return read_lines(args.label_file)
    return arguments.read_list(args.strings or arguments.STRINGS, "--strings")
