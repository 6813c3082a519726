"""Places: in which line of which file a text stands that the model cannot take."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from clipworks.errors import TextError

# Arguments that name files of texts.
_FILES = ("texts_file", "texts", "labels", "pairs")


def name_place(error: TextError, args: argparse.Namespace) -> None:
    """Let an error say the file and line of its text, where a file that was named has it."""
    from clipworks.text.columns import split_column
    from clipworks.text.files import decode_text

    encoding = getattr(args, "encoding", None)
    for option in _FILES:
        given = getattr(args, option, None)
        file = split_column(given)[0] if isinstance(given, str) else ""
        if error.text is None or not os.path.isfile(file):  # noqa: PTH113  # any text
            continue
        lines = decode_text(Path(file).read_bytes(), file, encoding).split("\n")
        wanted = _find_name(error.text, args) if option == "labels" else error.text
        alike = [number for number, line in enumerate(lines, 1) if wanted is not None and wanted in line]
        exact = [number for number in alike if lines[number - 1].strip() == wanted]
        if alike:
            error.message = f"{file}, line {(exact or alike)[0]}: {error.message.partition(' ')[2]}"
            return


def _find_name(prompt: str, args: argparse.Namespace) -> str | None:
    """The class name that a prompt is of."""
    from clipworks.text.prompts import fill_templates, read_labels, read_templates

    templates = read_templates(args.templates, encoding=args.encoding)
    names = (name for name in read_labels(args.labels, encoding=args.encoding).names if name in prompt)
    return next((name for name in names if prompt in fill_templates([name], templates)), None)
