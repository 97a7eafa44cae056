"""The generator behind `--weights random:SEED`, in numpy: the twin of src/weights/random.rs, where
its definition stands. Golden files and comparisons with other engines draw their weights here."""

import math

import numpy as np

MASK = (1 << 64) - 1


def fnv1a(name):
    """FNV-1a, 64 bits, of a tensor's name."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def unit(name, seed, count):
    """`count` numbers in [0, 1), float64."""
    z = np.arange(1, count + 1, dtype=np.uint64)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(fnv1a(name) ^ seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def tensor(name, shape, seed):
    """The weight tensor that `random:SEED` gives for this name and shape, float32."""
    shape = tuple(shape)
    u = unit(name, seed, math.prod(shape))
    if len(shape) >= 2:
        values = (2.0 * u - 1.0) * math.sqrt(6.0 / math.prod(shape[1:]))
    elif name.endswith(".running_var") or (len(shape) == 1 and name.endswith(".weight")):
        values = 0.5 + u
    else:
        values = (2.0 * u - 1.0) * 0.1
    return values.astype(np.float32).reshape(shape)


def network_input(shape, seed):
    """An input of this shape, uniform in [-1, 1), float32: the stream of the name `input`."""
    shape = tuple(shape)
    return (2.0 * unit("input", seed, math.prod(shape)) - 1.0).astype(np.float32).reshape(shape)


def fill(module, seed):
    """Fills the parameters and buffers of a torch module by the names of its state dict."""
    import torch

    state = module.state_dict()
    for name, value in state.items():
        if value.dtype.is_floating_point:
            drawn = tensor(name, value.shape, seed)
            state[name] = torch.from_numpy(drawn).to(value.dtype)
    module.load_state_dict(state)
