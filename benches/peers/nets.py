"""Reads a layer spec into plain Python: layers in order, their inputs, every shape, every tensor.

The spec is the one source of truth for all engines: the PyTorch module, the ONNX file and what
alexc compiles come from it. Shapes are computed here once more, on their own, and held against
the `in_shape` and `out_shape` that the spec states.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any

import yaml


class SpecError(Exception):
    """The spec says something that this reader cannot take."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer. Shapes are without the batch: (C, H, W) or (features,)."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    weights: str
    attributes: dict[str, Any]

    def __getattr__(self, key: str) -> Any:
        try:
            return self.attributes[key]
        except KeyError:
            raise AttributeError(key) from None


@dataclasses.dataclass(frozen=True)
class Net:
    """A net with one input and one output, the last layer's."""

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def output(self) -> str:
        """The name of the value that the net answers with."""
        return self.layers[-1].name

    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """Every weight tensor once, in the order of the layers: name and shape."""
        found: dict[str, tuple[int, ...]] = {}
        for layer in self.layers:
            for suffix, shape in _tensors_of(layer):
                name = f"{layer.weights}.{suffix}"
                if found.setdefault(name, shape) != shape:
                    raise SpecError(f"{layer.name}: {name} has shape {shape} here, {found[name]} above")
        return list(found.items())


def _tensors_of(layer: Layer) -> list[tuple[str, tuple[int, ...]]]:
    if layer.kind == "conv":
        shape = (layer.out_channels, layer.in_shape[0] // layer.groups, *layer.kernel_size)
    elif layer.kind == "linear":
        shape = (layer.out_features, math.prod(layer.in_shape))
    elif layer.kind == "batch_norm":
        channels = (layer.in_shape[0],)
        return [(name, channels) for name in ("weight", "bias", "running_mean", "running_var")]
    else:
        return []
    return [("weight", shape)] + ([("bias", shape[:1])] if layer.bias else [])


_REQUIRED = object()
_WINDOW = {"kernel_size": _REQUIRED, "stride": 1, "padding": 0}
_KEYS: dict[str, dict[str, Any]] = {
    "conv": {**_WINDOW, "out_channels": _REQUIRED, "dilation": 1, "groups": 1, "bias": True},
    "max_pool": {**_WINDOW, "stride": None, "ceil_mode": False},
    "avg_pool": {**_WINDOW, "stride": None, "ceil_mode": False, "count_include_pad": True},
    "lrn": dict.fromkeys(("size", "alpha", "beta", "k", "alpha_scaling"), _REQUIRED),
    "relu": {},
    "sigmoid": {},
    "tanh": {},
    "dropout": {"p": 0.5},
    "flatten": {},
    "linear": {"out_features": _REQUIRED, "bias": True},
    "softmax": {},
    "batch_norm": {"eps": 1.0e-5},
    "add": {},
    "concat": {},
}
_COMMON = {"name", "type", "from", "in_shape", "out_shape", "weights"}


def load(path: pathlib.Path) -> dict[str, Any]:
    """The spec as YAML gives it."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def without_final_softmax(document: dict[str, Any]) -> dict[str, Any]:
    """The same net up to its logits: a softmax over random weights would hide errors.

    What only concerns pictures and answers (preprocess, labels) is left out, so that the copy
    needs no other file.
    """
    layers = list(document["layers"])
    while layers[-1]["type"] == "softmax":
        layers.pop()
    kept = {key: value for key, value in document.items() if key not in ("preprocess", "labels")}
    return {**kept, "layers": layers}


def read(document: dict[str, Any]) -> Net:
    """Resolves defaults, inputs and shapes of every layer."""
    _, *input_shape = document["input"]["shape"]
    shapes: dict[str, tuple[int, ...]] = {"input": tuple(input_shape)}
    above = "input"
    layers = []
    for entry in document["layers"]:
        layer = _read_layer(entry, above, shapes)
        shapes[layer.name] = layer.out_shape
        above = layer.name
        layers.append(layer)
    return Net(document["name"], tuple(input_shape), tuple(layers))


def _read_layer(entry: dict[str, Any], above: str, shapes: dict[str, tuple[int, ...]]) -> Layer:
    name, kind = entry["name"], entry["type"]
    if kind not in _KEYS:
        raise SpecError(f"{name}: no layer type {kind}")
    unknown = entry.keys() - _COMMON - _KEYS[kind].keys()
    if unknown:
        raise SpecError(f"{name}: unknown keys {sorted(unknown)}")
    attributes = {key: entry.get(key, default) for key, default in _KEYS[kind].items()}
    missing = [key for key, value in attributes.items() if value is _REQUIRED]
    if missing:
        raise SpecError(f"{name}: {missing} must be given")
    if "kernel_size" in attributes:
        attributes["kernel_size"] = _pair(attributes["kernel_size"])
        stride = attributes["stride"]
        attributes["stride"] = attributes["kernel_size"] if stride is None else _pair(stride)
        attributes["dilation"] = _pair(attributes.get("dilation", 1))
        attributes["padding"] = _padding(attributes["padding"])
    for key in ("alpha", "beta", "k", "eps"):
        if key in attributes:
            attributes[key] = float(attributes[key])  # YAML 1.1 reads 1e-4 as text

    sources = entry.get("from", above)
    inputs = tuple(sources) if isinstance(sources, list) else (sources,)
    in_shapes = [shapes[source] for source in inputs]
    out_shape = _out_shape(name, kind, attributes, in_shapes)
    for key, shape in (("in_shape", in_shapes[0]), ("out_shape", out_shape)):
        if key in entry and tuple(_as_list(entry[key])) != shape:
            raise SpecError(f"{name}: the spec states {key} {entry[key]}, computed is {list(shape)}")
    return Layer(name, kind, inputs, in_shapes[0], out_shape, entry.get("weights", name), attributes)


def _out_shape(name, kind, attributes, in_shapes) -> tuple[int, ...]:
    first = in_shapes[0]
    if kind == "conv":
        return (attributes["out_channels"], *_map_size(attributes, first, False))
    if kind in ("max_pool", "avg_pool"):
        return (first[0], *_map_size(attributes, first, attributes["ceil_mode"]))
    if kind == "flatten":
        return (math.prod(first),)
    if kind == "linear":
        return (attributes["out_features"],)
    if kind == "concat":
        if any(shape[1:] != first[1:] for shape in in_shapes):
            raise SpecError(f"{name}: concat of maps of other sizes: {in_shapes}")
        return (sum(shape[0] for shape in in_shapes), *first[1:])
    if kind == "add" and any(shape != first for shape in in_shapes):
        raise SpecError(f"{name}: add of other shapes: {in_shapes}")
    return first


def _map_size(attributes, shape, ceil_mode: bool) -> tuple[int, int]:
    top, left, bottom, right = attributes["padding"]
    sizes = []
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        size, stride = shape[1 + axis], attributes["stride"][axis]
        reach = attributes["dilation"][axis] * (attributes["kernel_size"][axis] - 1) + 1
        room = size + before + after - reach
        count = (-(-room // stride) if ceil_mode else room // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + before:
            count -= 1  # a last window that would start in the padding is dropped
        sizes.append(count)
    return sizes[0], sizes[1]


def _as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def _pair(value) -> tuple[int, int]:
    height, width = value if isinstance(value, list) else (value, value)
    return height, width


def _padding(value) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    if isinstance(value, dict):
        return tuple(value.get(side, 0) for side in ("top", "left", "bottom", "right"))
    before, after = value if isinstance(value, list) else (value, value)
    return before, before, after, after
