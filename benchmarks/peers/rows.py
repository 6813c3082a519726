"""The rows of the table: each a peer, a precision and a way of doing it, and the environment that it runs in."""

from __future__ import annotations

from dataclasses import dataclass

TORCH = ("torch==2.13.0", "torchvision==0.28.0")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A peer's own environment.

    Attributes:
        packages: what a user installs, pinned; empty for this repository.
        extra: what only the worker needs; its size is not counted.
        option: an extra of this repository, which some rows need; its size is counted for them alone.
    """

    packages: tuple[str, ...]
    extra: tuple[str, ...] = ()
    option: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        peer: the client module.
        label: as the table says it.
        precision: what it computes in.
        variant: handed to the client.
        padding: how far its texts are padded: ``longest`` of a batch, ``77``, or ``own`` for no padding.
        optional: whether it needs its environment's option.
    """

    peer: str
    label: str
    precision: str
    variant: str = ""
    padding: str = "longest"
    optional: bool = False

    @property
    def key(self) -> str:
        """A name for files and records."""
        return "-".join(part for part in (self.peer, self.precision, self.variant) if part)

    @property
    def ours(self) -> bool:
        """Whether this is clipworks."""
        return self.peer == "clipworks"


ENVIRONMENTS = {
    "clipworks": Environment(packages=(), option="onnxruntime"),
    "transformers": Environment(packages=(*TORCH, "transformers==5.23.0", "pillow==13.0.0")),
    "open_clip": Environment(packages=(*TORCH, "open_clip_torch==3.3.0")),
    "sentence_transformers": Environment(packages=(*TORCH, "sentence-transformers==6.2.0", "pillow==13.0.0")),
    "onnx_clip": Environment(packages=("onnx_clip==4.0.1",)),
    "fastembed": Environment(packages=("fastembed==0.9.1",)),
    "infinity": Environment(
        packages=(*TORCH, "infinity_emb[torch,vision]==0.0.78", "aiohttp"), extra=("infinity_emb[server]==0.0.78",)
    ),
    "faster_clip": Environment(packages=("faster-clip==0.4.0",), extra=("numpy==2.4.6",)),
    "clip_cpp": Environment(packages=("clip_cpp==0.5.0",), extra=("numpy==2.4.6", "gguf", "safetensors")),
}

ROWS = (
    Row(peer="clipworks", label="clipworks", precision="f32"),
    Row(peer="clipworks", label="clipworks, OpenVINO", precision="f32", variant="openvino"),
    Row(peer="clipworks", label="clipworks, ONNX Runtime", precision="f32", variant="onnxruntime", optional=True),
    Row(peer="clipworks", label="clipworks", precision="bf16"),
    Row(peer="clipworks", label="clipworks, OpenVINO", precision="bf16", variant="openvino"),
    Row(peer="clipworks", label="clipworks", precision="int8"),
    Row(peer="clipworks", label="clipworks, OpenVINO", precision="int8", variant="openvino"),
    Row(peer="transformers", label="transformers, CLIPModel", precision="f32"),
    Row(peer="transformers", label="transformers, CLIPModel", precision="bf16"),
    Row(peer="transformers", label="transformers, pipeline", precision="f32", variant="pipeline", padding="77"),
    Row(peer="transformers", label="transformers, pipeline", precision="bf16", variant="pipeline", padding="77"),
    Row(peer="open_clip", label="open_clip", precision="f32", padding="77"),
    Row(peer="open_clip", label="open_clip", precision="bf16", padding="77"),
    Row(peer="sentence_transformers", label="sentence-transformers", precision="f32"),
    Row(peer="sentence_transformers", label="sentence-transformers", precision="bf16"),
    Row(peer="onnx_clip", label="onnx_clip", precision="f32", padding="77"),
    Row(peer="fastembed", label="fastembed", precision="f32"),
    Row(peer="fastembed", label="fastembed, parallel", precision="f32", variant="parallel"),
    Row(peer="infinity", label="infinity, engine", precision="f32"),
    Row(peer="faster_clip", label="faster-clip", precision="int8"),
    Row(peer="clip_cpp", label="clip-cpp", precision="f16", padding="own"),
)
