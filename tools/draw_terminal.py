"""Draw docs/match.svg, the first drawing of the README: an image, and what a terminal shows when it is matched.

    python tools/draw_terminal.py

The lines are those that ``clipworks match`` prints on a terminal of 64 columns, in f32; tests/test_documentation.py
holds the drawing against the command. The image is examples/CLIP.png on white, made small.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shlex
from html import escape
from pathlib import Path
from unittest import mock

from PIL import Image

from clipworks.cli import main

ROOT = Path(__file__).resolve().parents[1]
DRAWING = ROOT / "docs" / "match.svg"
COMMAND = 'clipworks match examples/CLIP.png "a diagram" "a dog" "a cat"'
COLUMNS = 64
LINE, LEFT, WIDTH, IMAGE = 22, 24, 760, 240  # pixels: of a line, of the margin, of the drawing, of the image's height
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class Terminal(io.StringIO):
    """What a command prints, where it believes that it prints to a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """It is one."""
        return True


def run_on_terminal(command: str, *more: str, columns: int = COLUMNS) -> str:
    """What a command of clipworks prints on a terminal.

    Args:
        command: as a person types it, in the folder where this process is.
        more: further arguments, which the drawing does not show.
        columns: of the terminal.
    """
    environment = {"COLUMNS": str(columns), "LINES": "24"}
    with contextlib.redirect_stdout(Terminal()) as screen, mock.patch.dict(os.environ, environment):
        status = main([*shlex.split(command)[1:], *more])
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return screen.getvalue()


def draw(command: str, printed: str, image: Path) -> str:
    """The drawing, SVG.

    Args:
        command: that was typed.
        printed: what it printed.
        image: the file that it was given.
    """
    lines = [f"$ {command}", *printed.splitlines()]
    top = IMAGE + 36
    height = top + LINE * len(lines) + 24
    text = "\n".join(
        f'  <text x="{LEFT}" y="{top + LINE * number + 20}" fill="{"#8ddb8c" if not number else "#e6edf3"}"'
        f' xml:space="preserve">{escape(line, quote=False)}</text>'
        for number, line in enumerate(lines)
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">
  <title>{escape(command, quote=False)}</title>
  <rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>
  <image x="{LEFT}" y="12" width="{WIDTH - 2 * LEFT}" height="{IMAGE}" href="data:image/png;base64,{encode(image)}"/>
  <rect y="{top - 16}" width="{WIDTH}" height="{height - top + 16}" rx="8" fill="#0d1117"/>
  <g font-family="{FONT}" font-size="14">
{text}
  </g>
</svg>
"""


def encode(image: Path) -> str:
    """An image over white as a small PNG of few colours, in base64."""
    with Image.open(image) as opened:
        layer = opened.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    small = Image.alpha_composite(white, layer).convert("RGB")
    small.thumbnail((WIDTH - 2 * LEFT, IMAGE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.quantize(64).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


if __name__ == "__main__":
    os.chdir(ROOT)
    DRAWING.write_text(
        draw(COMMAND, run_on_terminal(COMMAND, "--precision", "f32"), ROOT / "examples" / "CLIP.png"), encoding="utf-8"
    )
