"""Which devices and precisions PyTorch has here."""

from __future__ import annotations

import torch

from clipworks.options import AUTO
from clipworks.runtimes.availability import is_place, unavailable
from clipworks.runtimes.choice import FloatChoice, choose_float
from clipworks.runtimes.registry import TORCH

KINDS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def list_devices() -> list[str]:
    """The devices that can be used, by the names that they are asked for with; the best first."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def describe_devices() -> dict[str, list[str]]:
    """The devices that can be used, each with its precisions."""
    return {name: list_precisions(torch.device(name)) for name in list_devices()}


def choose_device(asked: str) -> torch.device:
    """Resolve a name, a place in the list of devices, or ``auto``: the first of the list.

    Raises:
        RuntimeUnavailableError: there is no such device; the message lists those that are.
    """
    available = list_devices()
    name = available[0] if asked == AUTO else available[int(asked)] if is_place(asked, available) else asked
    name = {"cuda": "cuda:0", "cpu:0": "cpu", "mps:0": "mps"}.get(name, name)
    if name not in available:
        error = unavailable("device", asked, "torch", available)
        if name.startswith("cuda") and torch.version.cuda is None:
            error.hint = f"this PyTorch ({torch.__version__}) was built without CUDA; pytorch.org has others"
        raise error
    return torch.device(name)


def list_precisions(device: torch.device) -> list[str]:
    """The precisions that a device computes natively; what would be emulated is not among them."""
    if device.type == "cuda":
        bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return ["f32", *(["bf16"] if bf16 else []), "f16"]
    if device.type == "mps":
        return ["f32", "f16"]
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
    return ["f32", "bf16"] if native else ["f32"]


def choose_precision(device: torch.device, asked: str) -> FloatChoice:
    """Resolve ``auto``, bf16 where it pays, and check any other name.

    Raises:
        RuntimeUnavailableError: the device does not compute it; the message lists what it does.
    """
    available = list_precisions(device)
    if asked != AUTO and asked not in available:
        raise unavailable("precision", asked, f"torch ({device})", available)
    if asked != AUTO:
        return FloatChoice(precision=asked, reason="it was asked for")
    if device.type == "cpu":
        return choose_float(TORCH, available)
    native = "bf16" in available
    return FloatChoice(
        precision="bf16" if native else "f32", reason=f"bf16 is {'' if native else 'not '}native to the GPU"
    )


def name_f32_spoiler(device: torch.device) -> str | None:
    """The setting of this process that makes f32 products coarser than f32 on a device; None where there is none."""
    name = "cuda" if device.type == "cuda" else "mkldnn"
    backend = getattr(getattr(torch.backends, name), "matmul", None)
    set_to = getattr(backend, "fp32_precision", None)  # PyTorch 2.9 and later; the older settings are told here too
    if set_to is None:
        coarse = torch.get_float32_matmul_precision()
        set_to = {"highest": "ieee", "high": "tf32", "medium": "tf32" if name == "cuda" else "bf16"}[coarse]
    harmless = ("ieee", "none") if name == "cuda" else ("ieee", "none", "tf32")
    return None if device.type == "mps" or set_to in harmless else f"f32 products to {set_to}"


def free_cache(device: torch.device) -> None:
    """Give memory that PyTorch keeps for later back to a device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
