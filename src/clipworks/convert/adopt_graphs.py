"""The edits that bring other makers' ONNX towers under this project's contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from clipworks.bundle.card import Card, ImageSpec
from clipworks.errors import ConversionError

INPUTS, OUTPUT = {"image": "image", "text": "ids"}, "embedding"
"""What an adopted graph takes and gives."""

_EMBEDDINGS = ("image_embeds", "text_embeds", OUTPUT)
_PREFIX = "tower."
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)


def wrap_image(model: onnx.ModelProto, spec: ImageSpec, card: Card, path: Path) -> onnx.ModelProto:
    """Put the normalisation before an image tower that takes float ``[n, 3, size, size]``; it is changed.

    Raises:
        ConversionError: the graph's inputs or outputs are not known, or contradict the card.
    """
    inputs = _free_inputs(model)
    if len(inputs) != 1:
        raise ConversionError(f"{path} has the inputs {', '.join(inputs)}; allowed: one, pixels")
    pixels = next(iter(inputs.values()))
    kind, sides = _describe_value(pixels)
    wanted = (None, 3, spec.size, spec.size)
    if kind not in _FLOATS or not _fits(sides, wanted):
        raise ConversionError(
            f"{path}: the input {pixels.name} is {_spell(kind, sides)}; allowed: float [n, 3, {spec.size}, {spec.size}]"
        )
    output = _embedding_output(model, card.dim, path)
    prefixed = onnx.compose.add_prefix(model, _PREFIX)
    mean = np.array(spec.mean, np.float32) * 255
    factor = 1 / (np.array(spec.std, np.float32) * 255)
    node = onnx.helper.make_node
    head = [
        node("Cast", [INPUTS["image"]], ["pixels"], to=onnx.TensorProto.FLOAT),
        node("Sub", ["pixels", "mean"], ["centred"]),
        node("Mul", ["centred", "factor"], ["scaled"]),
        node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        node("Cast", ["planes"], [_PREFIX + pixels.name], to=kind),
    ]
    constants = [onnx.numpy_helper.from_array(mean, "mean"), onnx.numpy_helper.from_array(factor, "factor")]
    sides = ["n", spec.size, spec.size, 3]
    entry = onnx.helper.make_tensor_value_info(INPUTS["image"], onnx.TensorProto.UINT8, sides)
    return _assemble(prefixed, entry, head, constants, _PREFIX + output.name, card.dim)


def wrap_text(model: onnx.ModelProto, card: Card, path: Path) -> tuple[onnx.ModelProto, bool]:
    """Put the casts before a text tower that takes integer ``[n, length]``, with or without an attention mask.

    Returns:
        The graph, which is changed, and whether it takes the full context only.

    Raises:
        ConversionError: the graph's inputs or outputs are not known, or contradict the card.
    """
    inputs = _free_inputs(model)
    mask = inputs.pop("attention_mask", None)
    if len(inputs) != 1:
        raise ConversionError(
            f"{path} has the inputs {', '.join(inputs)}; allowed: token ids, and attention_mask beside them"
        )
    ids = next(iter(inputs.values()))
    kind, sides = _describe_value(ids)
    context = card.text.context
    if kind not in _INTEGERS or not _fits(sides, (None, context)):
        raise ConversionError(
            f"{path}: the input {ids.name} is {_spell(kind, sides)}; "
            f"allowed: int32 or int64 [n, {context}] or [n, length]"
        )
    output = _embedding_output(model, card.dim, path)
    prefixed = onnx.compose.add_prefix(model, _PREFIX)
    node = onnx.helper.make_node
    head = [node("Cast", [INPUTS["text"]], [_PREFIX + ids.name], to=kind)]
    if mask is not None:
        mask_kind, mask_sides = _describe_value(mask)
        if mask_kind not in (*_INTEGERS, *_FLOATS) or len(mask_sides) != 2:
            raise ConversionError(f"{path}: attention_mask is {_spell(mask_kind, mask_sides)}; allowed: [n, length]")
        one = onnx.helper.make_tensor("one", mask_kind, [1], [1])
        head += [
            node("Shape", [INPUTS["text"]], ["ids_shape"]),
            node("ConstantOfShape", ["ids_shape"], [_PREFIX + "attention_mask"], value=one),
        ]
    fixed = isinstance(sides[1], int)
    shape = ["n", context if fixed else "length"]
    entry = onnx.helper.make_tensor_value_info(INPUTS["text"], onnx.TensorProto.INT32, shape)
    return _assemble(prefixed, entry, head, [], _PREFIX + output.name, card.dim), fixed


def _assemble(
    model: onnx.ModelProto,
    entry: onnx.ValueInfoProto,
    head: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    embedding: str,
    dim: int,
) -> onnx.ModelProto:
    """Replace a graph's inputs by one, its outputs by the embedding in float32, and cut off what neither needs."""
    graph = model.graph
    tail = onnx.helper.make_node("Cast", [embedding], [OUTPUT], to=onnx.TensorProto.FLOAT)
    nodes = [*head, *graph.node, tail]
    needed, kept = {OUTPUT}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(_outer_names(node))
            kept.append(node)
    initializers = [item for item in (*graph.initializer, *constants) if item.name in needed]
    for field in ("node", "input", "output", "initializer"):
        graph.ClearField(field)
    graph.node.extend(reversed(kept))
    graph.input.append(entry)
    graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["n", dim]))
    graph.initializer.extend(initializers)
    return model


def _outer_names(node: onnx.NodeProto) -> set[str]:
    """Every name that the bodies of a node (If, Loop) mention: some of them belong to the graph outside."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    names: set[str] = set()
    for inner in (item for body in bodies for item in body.node):
        names.update(inner.input)
        names.update(_outer_names(inner))
    return names.union(*({value.name for value in body.output} for body in bodies))


def _free_inputs(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """The inputs by name that are no initializers: graphs of old versions list both."""
    stored = {item.name for item in model.graph.initializer}
    return {value.name: value for value in model.graph.input if value.name not in stored}


def _embedding_output(model: onnx.ModelProto, dim: int, path: Path) -> onnx.ValueInfoProto:
    """The output that holds the embeddings: the only one, or the one of a known name."""
    outputs: dict[str, onnx.ValueInfoProto] = {value.name: value for value in model.graph.output}
    names = [name for name in _EMBEDDINGS if name in outputs] or (list(outputs) if len(outputs) == 1 else [])
    if len(names) != 1:
        known = ", ".join(_EMBEDDINGS)
        raise ConversionError(f"{path} has the outputs {', '.join(outputs)}; allowed: one alone, or one of {known}")
    kind, sides = _describe_value(outputs[names[0]])
    if kind not in _FLOATS or not _fits(sides, (None, dim)):
        raise ConversionError(f"{path}: the output {names[0]} is {_spell(kind, sides)}; the card says float [n, {dim}]")
    return outputs[names[0]]


def _describe_value(value: onnx.ValueInfoProto) -> tuple[int, list[int | str]]:
    """Type and sides of a graph's input or output; a side without a number is a name, or ``?``."""
    tensor = value.type.tensor_type
    sides: list[int | str] = [
        side.dim_value if side.HasField("dim_value") else side.dim_param or "?" for side in tensor.shape.dim
    ]
    return tensor.elem_type, sides


def _fits(sides: Sequence[int | str], wanted: Sequence[int | None]) -> bool:
    """Whether a shape is the wanted one: None must be free, a number must be that number or free."""
    return len(sides) == len(wanted) and all(
        isinstance(side, str) or (want is not None and side == want) for side, want in zip(sides, wanted, strict=True)
    )


def _spell(kind: int, sides: Sequence[int | str]) -> str:
    return f"{onnx.TensorProto.DataType.Name(kind).lower()} [{', '.join(map(str, sides))}]"
