"""Where every command's process begins: ``python -m clipworks`` and the installed commands.

Signals are taken over before anything else is imported: until then, Ctrl-C is a traceback of Python's.
"""

import os

try:
    import importlib
    import sys

    from clipworks import interrupts
except KeyboardInterrupt:
    os._exit(130)

TYPE_CHECKING = False  # as in clipworks/__init__.py

if TYPE_CHECKING:
    from collections.abc import Callable


def _make_command(program: str, module: str, name: str = "main") -> "Callable[[], int]":
    """What runs a command: it imports it, with signals that end it at any moment of its life."""

    def start() -> int:
        try:
            interrupts.install(program)
        except KeyboardInterrupt:
            os._exit(130)
        try:
            status: int = getattr(importlib.import_module(module), name)()
        except SystemExit as end:  # from argparse, with a number
            status = end.code if isinstance(end.code, int) else 1
        interrupts.leave_with(status)
        return status

    return start


main = _make_command("clipworks", "clipworks.cli")
clip_sample = _make_command("clip_sample", "clipworks.vendor_sample.clip_sample")
make_input_npz = _make_command("make_input_npz", "clipworks.vendor_sample.make_input_npz")
clip_image_prof = _make_command("clip_image_prof", "clipworks.vendor_sample.profilers", "profile_image")
clip_text_prof = _make_command("clip_text_prof", "clipworks.vendor_sample.profilers", "profile_text")
eval_topk = _make_command("eval_topk", "clipworks.vendor_sample.eval_topk")


if __name__ == "__main__":
    sys.exit(main())
