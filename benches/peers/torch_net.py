"""A net as a PyTorch module, layer by layer from the spec."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Pool(nn.Module):
    """Pooling with padding of its own on each side, which PyTorch's pools do not have."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        top, left, bottom, right = layer.padding
        self.pads = (left, right, top, bottom)
        symmetric = top == bottom and left == right
        fits = 2 * top <= layer.kernel_size[0] and 2 * left <= layer.kernel_size[1]
        self.inside = (top, left) if symmetric and fits else None
        if self.inside is None and layer.kind == "avg_pool" and layer.ceil_mode:
            raise NotImplementedError(f"{layer.name}: ceil_mode with such padding in PyTorch")

    def forward(self, x):
        layer = self.layer
        window = dict(kernel_size=layer.kernel_size, stride=layer.stride, ceil_mode=layer.ceil_mode)
        if layer.kind == "max_pool":
            if self.inside is not None:
                return F.max_pool2d(x, padding=self.inside, **window)
            return F.max_pool2d(F.pad(x, self.pads, value=float("-inf")), **window)
        if self.inside is not None:
            return F.avg_pool2d(x, padding=self.inside, count_include_pad=layer.count_include_pad, **window)
        pooled = F.avg_pool2d(F.pad(x, self.pads), **window)
        if layer.count_include_pad:
            return pooled
        return pooled / F.avg_pool2d(F.pad(torch.ones_like(x), self.pads), **window)


class Add(nn.Module):
    """Sum of all inputs."""

    def forward(self, *inputs):
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return total


class Concat(nn.Module):
    """Joins channels."""

    def forward(self, *inputs):
        return torch.cat(inputs, dim=1)


def _module(layer) -> nn.Module:
    kind = layer.kind
    if kind == "conv":
        top, left, bottom, right = layer.padding
        symmetric = top == bottom and left == right
        conv = nn.Conv2d(
            layer.in_shape[0], layer.out_channels, layer.kernel_size, layer.stride,
            (top, left) if symmetric else 0, layer.dilation, layer.groups, layer.bias)
        return conv if symmetric else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)
    if kind in ("max_pool", "avg_pool"):
        return Pool(layer)
    if kind == "lrn":
        alpha = layer.alpha * (layer.size if layer.alpha_scaling == "sum" else 1)
        return nn.LocalResponseNorm(layer.size, alpha, layer.beta, layer.k)
    if kind == "linear":
        linear = nn.Linear(int(np.prod(layer.in_shape)), layer.out_features, layer.bias)
        return nn.Sequential(nn.Flatten(), linear) if len(layer.in_shape) > 1 else linear
    if kind == "batch_norm":
        return nn.BatchNorm2d(layer.in_shape[0], eps=layer.eps)
    return {
        "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "flatten": nn.Flatten,
        "dropout": nn.Identity, "softmax": lambda: nn.Softmax(1), "add": Add, "concat": Concat,
    }[kind]()


class TorchNet(nn.Module):
    """The whole net, ready to run."""

    def __init__(self, net, tensors: dict[str, np.ndarray]):
        super().__init__()
        self.net = net
        with torch.device("meta"):
            self.steps = nn.ModuleList(_module(layer) for layer in net.layers)
        for layer, step in zip(net.layers, self.steps):
            # A padded or flattened layer holds its weights in the last module of a Sequential.
            holder = step[-1] if isinstance(step, nn.Sequential) else step
            for part in list(holder.state_dict()):
                if part != "num_batches_tracked":
                    array = tensors[f"{layer.weights}.{part}"]
                    value = torch.from_numpy(array)
                    if part in ("running_mean", "running_var"):
                        holder._buffers[part] = value
                    else:
                        setattr(holder, part, nn.Parameter(value, requires_grad=False))
            if isinstance(holder, nn.BatchNorm2d):
                holder.num_batches_tracked = torch.tensor(0)
        self.eval()

    def forward(self, x):
        values = {"input": x}
        for layer, step in zip(self.net.layers, self.steps):
            values[layer.name] = step(*(values[name] for name in layer.inputs))
        return values[self.net.output]
