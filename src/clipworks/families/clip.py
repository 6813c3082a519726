"""CLIP: what OpenAI's model and those made after it have in common, whatever layout their checkpoints have."""

from __future__ import annotations

from clipworks.bundle.card import TextInput

NAME = "clip"
VOCABULARY, START, END = 49408, 49406, 49407


def describe_text(context: int) -> TextInput:
    """How texts become ids: OpenAI's tokenizer, whose vocabulary all of them share."""
    return TextInput(tokenizer="clip", context=context, pad_id=0, start_id=START, end_id=END, vocabulary=VOCABULARY)
