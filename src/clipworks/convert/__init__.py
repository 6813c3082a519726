"""From a CLIP checkpoint to a bundle with exact, fast towers, without PyTorch."""

from __future__ import annotations

from clipworks.convert.adopt import adopt_towers
from clipworks.convert.answers import check_answers, describe_answers, list_missing, require_answers
from clipworks.convert.conversion import convert_checkpoint
from clipworks.convert.quantize import quantize_towers
from clipworks.convert.verify import VerifyResult, compare_with_checkpoint
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.registry import read_checkpoint

__all__ = [
    "Checkpoint",
    "VerifyResult",
    "adopt_towers",
    "check_answers",
    "compare_with_checkpoint",
    "convert_checkpoint",
    "describe_answers",
    "list_missing",
    "quantize_towers",
    "read_checkpoint",
    "require_answers",
]
