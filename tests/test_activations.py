"""An activation in a graph is one kernel of the runtimes."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import openvino
import pytest
from drawn_towers import Shape, draw_towers

from clipworks.bundle.card import Activation
from clipworks.export.graph import build_graph
from clipworks.towers.folding import fold_image

pytestmark = pytest.mark.runtimes


@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "quick_gelu"])
def test_runtimes_make_one_kernel_of_an_activation(activation: Activation, tmp_path: Path) -> None:
    """Written in another order of steps they compute each step by itself, which costs a tenth of a tower's time."""
    content = build_graph(fold_image(draw_towers(Shape(activation=activation))[0])).content
    steps = {"Tanh", "Erf", "Pow", "Sigmoid"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = {operation.get_friendly_name().rpartition("/")[2] for operation in compiled.get_runtime_model().get_ops()}
    assert not {name.partition(".")[0] for name in names} & steps
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    assert not {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node} & steps
