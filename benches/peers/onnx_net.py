"""Writes a net as ONNX, node by node from the spec: what onnxruntime, OpenVINO and MNN read.

`lrn` picks how local response normalisation is spelt, since engines differ in which spelling
they run best:

- `native`: the LRN operator;
- `pool`: squares, average pool over the channels, power, divide, as PyTorch's exporter spells
  `torch.nn.LocalResponseNorm` (a padded three-dimensional pool);
- `pool2d`: the same with the map folded into one axis, so that the pool is two-dimensional.
"""

from __future__ import annotations

import json
import pathlib
import struct

import numpy as np
import onnx
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper


def write(net, weights: pathlib.Path, batch: int, path: pathlib.Path, lrn: str) -> None:
    """Writes the model with a fixed batch. Its weights stay in the safetensors file `weights`,
    which must lie in the folder where the model will: ONNX's external data may start anywhere in
    a file."""
    graph = _Graph(net, batch, lrn)
    for layer in net.layers:
        graph.layer(layer)
    last = net.layers[-1]
    proto = helper.make_graph(
        graph.nodes,
        net.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, *net.input_shape])],
        [helper.make_tensor_value_info(graph.value[last.name], TensorProto.FLOAT, [batch, *last.out_shape])],
        _initializers(net, weights) + graph.constants,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


def _initializers(net, weights: pathlib.Path) -> list[TensorProto]:
    with open(weights, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    found = []
    for name, shape in net.tensors():
        begin, end = entries[name]["data_offsets"]
        place = {"location": weights.name, "offset": 8 + length + begin, "length": end - begin}
        found.append(TensorProto(
            name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL,
            external_data=[StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()]))
    return found


class _Graph:
    def __init__(self, net, batch: int, lrn: str):
        self.batch = batch
        self.lrn_form = lrn
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        # Layers that compute nothing (dropout) only rename the value they read.
        self.value = {"input": "input"}
        self.shapes = {"input": net.input_shape} | {layer.name: layer.out_shape for layer in net.layers}

    def node(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def layer(self, layer) -> None:
        inputs = [self.value[name] for name in layer.inputs]
        self.value[layer.name] = getattr(self, layer.kind)(layer, inputs)

    def _bias(self, layer) -> list[str]:
        return [f"{layer.weights}.bias"] if layer.bias else []

    def conv(self, layer, inputs):
        return self.node(
            "Conv", [*inputs, f"{layer.weights}.weight", *self._bias(layer)], layer.name,
            kernel_shape=layer.kernel_size, strides=layer.stride, pads=layer.padding,
            dilations=layer.dilation, group=layer.groups)

    def max_pool(self, layer, inputs):
        return self.node("MaxPool", inputs, layer.name, **self._pool(layer))

    def avg_pool(self, layer, inputs):
        return self.node("AveragePool", inputs, layer.name, **self._pool(layer),
                         count_include_pad=int(layer.count_include_pad))

    def _pool(self, layer):
        return dict(kernel_shape=layer.kernel_size, strides=layer.stride, pads=layer.padding,
                    ceil_mode=int(layer.ceil_mode))

    def lrn(self, layer, inputs):
        # ONNX divides alpha by the size, as PyTorch does.
        alpha = layer.alpha * (layer.size if layer.alpha_scaling == "sum" else 1)
        if self.lrn_form == "native":
            return self.node("LRN", inputs, layer.name, size=layer.size, alpha=alpha,
                             beta=layer.beta, bias=layer.k)
        (x,), name, half = inputs, layer.name, layer.size // 2
        channels, height, width = layer.in_shape
        shape = [self.batch, channels, height, width]
        squares = self.node("Mul", [x, x], f"{name}/squares")
        if self.lrn_form == "pool":
            axis = self.constant(f"{name}/axis", np.array([1], np.int64))
            pads = self.constant(f"{name}/pads", np.array([0, 0, half, 0, 0, 0, 0, half, 0, 0], np.int64))
            folded = self.node("Unsqueeze", [squares, axis], f"{name}/folded")
            padded = self.node("Pad", [folded, pads], f"{name}/padded")
            pooled = self.node("AveragePool", [padded], f"{name}/pooled",
                               kernel_shape=[layer.size, 1, 1], strides=[1, 1, 1])
            mean = self.node("Squeeze", [pooled, axis], f"{name}/mean")
        else:
            fold = self.constant(f"{name}/fold", np.array([self.batch, 1, channels, height * width], np.int64))
            unfold = self.constant(f"{name}/unfold", np.array(shape, np.int64))
            folded = self.node("Reshape", [squares, fold], f"{name}/folded")
            pooled = self.node("AveragePool", [folded], f"{name}/pooled", kernel_shape=[layer.size, 1],
                               strides=[1, 1], pads=[half, 0, half, 0], count_include_pad=1)
            mean = self.node("Reshape", [pooled, unfold], f"{name}/mean")
        scaled = self.node("Mul", [mean, self.constant(f"{name}/alpha", np.float32(alpha))], f"{name}/scaled")
        base = self.node("Add", [scaled, self.constant(f"{name}/k", np.float32(layer.k))], f"{name}/base")
        power = self.node("Pow", [base, self.constant(f"{name}/beta", np.float32(layer.beta))], f"{name}/power")
        return self.node("Div", [x, power], name)

    def relu(self, layer, inputs):
        return self.node("Relu", inputs, layer.name)

    def sigmoid(self, layer, inputs):
        return self.node("Sigmoid", inputs, layer.name)

    def tanh(self, layer, inputs):
        return self.node("Tanh", inputs, layer.name)

    def dropout(self, layer, inputs):
        return inputs[0]

    def flatten(self, layer, inputs):
        return self.node("Flatten", inputs, layer.name, axis=1)

    def linear(self, layer, inputs):
        if len(layer.in_shape) > 1:
            inputs = [self.node("Flatten", inputs, f"{layer.name}/flat", axis=1)]
        return self.node("Gemm", [*inputs, f"{layer.weights}.weight", *self._bias(layer)],
                         layer.name, transB=1)

    def softmax(self, layer, inputs):
        return self.node("Softmax", inputs, layer.name, axis=1)

    def batch_norm(self, layer, inputs):
        names = [f"{layer.weights}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return self.node("BatchNormalization", [*inputs, *names], layer.name, epsilon=layer.eps)

    def add(self, layer, inputs):
        total = inputs[0]
        for index, other in enumerate(inputs[1:]):
            last = index == len(inputs) - 2
            total = self.node("Add", [total, other], layer.name if last else f"{layer.name}/{index}")
        return total

    def concat(self, layer, inputs):
        return self.node("Concat", inputs, layer.name, axis=1)
