"""The generator behind `--weights random:SEED`, in numpy: the twin of src/weights/random.rs, where
its definition stands. Golden files and comparisons with other engines draw their weights here."""

import math

import numpy as np

MASK = (1 << 64) - 1
CHUNK = 1 << 20


def fnv1a(name):
    """FNV-1a, 64 bits, of a tensor's name."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def unit(name, seed, start, count):
    """Numbers `start` to `start + count` of a tensor's stream, in [0, 1), float64."""
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(fnv1a(name) ^ seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-24


def draw(name, shape, seed, value):
    """A float32 array of `value(u)`, a piece at a time: tensors can have 10^8 elements."""
    count = math.prod(shape)
    array = np.empty(count, np.float32)
    for start in range(0, count, CHUNK):
        end = min(start + CHUNK, count)
        array[start:end] = value(unit(name, seed, start, end - start))
    return array.reshape(shape)


def tensor(name, shape, seed):
    """The weight tensor that `random:SEED` gives for this name and shape, float32."""
    shape = tuple(shape)
    if len(shape) >= 2:
        scale = math.sqrt(6.0 / math.prod(shape[1:]))
        return draw(name, shape, seed, lambda u: (2.0 * u - 1.0) * scale)
    if name.endswith(".running_var") or (len(shape) == 1 and name.endswith(".weight")):
        return draw(name, shape, seed, lambda u: 0.5 + u)
    return draw(name, shape, seed, lambda u: (2.0 * u - 1.0) * 0.1)


def network_input(shape, seed):
    """An input of this shape, uniform in [-1, 1), float32: the stream of the name `input`."""
    return draw("input", tuple(shape), seed, lambda u: 2.0 * u - 1.0)


def fill(module, seed):
    """Fills the parameters and buffers of a torch module by the names of its state dict."""
    import torch

    state = module.state_dict()
    for name, value in state.items():
        if value.dtype.is_floating_point:
            drawn = tensor(name, value.shape, seed)
            state[name] = torch.from_numpy(drawn).to(value.dtype)
    module.load_state_dict(state)
