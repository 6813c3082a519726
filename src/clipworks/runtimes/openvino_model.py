"""A stored tower as a model of OpenVINO's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipworks.export.cached import load_graph
from clipworks.runtimes.protocol import EncoderRequest
from clipworks.towers.tensor_file import REFERRED, map_file

if TYPE_CHECKING:
    import openvino


def read_model(core: openvino.Core, request: EncoderRequest) -> tuple[openvino.Model, Any]:
    """Read a tower, and what must live as long as what is compiled of it.

    Of a tower that clipworks converted that is the file of its weights: the graph takes these as inputs, which become
    constants in the mapped file. (OpenVINO finds weights beside a graph in its own folder only.)
    """
    import openvino  # `clipworks.runtimes.openvino` sees to what comes with it

    tower = request.tower
    if tower.kind == "onnx":
        return core.read_model(tower.path), None
    model, content = core.read_model(load_graph(tower, None, request.cache)), map_file(tower.path)
    for parameter in model.get_parameters():
        name = parameter.output(0).any_name
        if name.startswith(REFERRED):
            start, shape = int(name.removeprefix(REFERRED)), list(parameter.get_output_shape(0))
            kind = parameter.get_element_type()
            array = content[start : start + kind.size * int(np.prod(shape))].view(kind.to_dtype()).reshape(shape)
            parameter.output(0).replace(openvino.op.Constant(array, shared_memory=True).output(0))
            model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    return model, content
