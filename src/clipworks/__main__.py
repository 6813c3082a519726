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


def main() -> int:
    """Run ``clipworks``."""
    return _start("clipworks", "clipworks.cli", "main")


def clip_sample() -> int:
    """Run the vendor's ``clip_sample``."""
    return _start("clip_sample", "clipworks.vendor_sample.clip_sample", "main")


def make_input_npz() -> int:
    """Run the vendor's ``make_input_npz``."""
    return _start("make_input_npz", "clipworks.vendor_sample.make_input_npz", "main")


def clip_image_prof() -> int:
    """Run the vendor's ``clip_image_prof``."""
    return _start("clip_image_prof", "clipworks.vendor_sample.profilers", "profile_image")


def clip_text_prof() -> int:
    """Run the vendor's ``clip_text_prof``."""
    return _start("clip_text_prof", "clipworks.vendor_sample.profilers", "profile_text")


def eval_topk() -> int:
    """Run the vendor's ``eval_topk``."""
    return _start("eval_topk", "clipworks.vendor_sample.eval_topk", "main")


def _start(program: str, module: str, name: str) -> int:
    """Import a command and run it, with signals that end it at any moment of its life."""
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


if __name__ == "__main__":
    sys.exit(main())
