"""The weights and pictures that all engines get: alexc's `random:SEED`, as the repository's one
numpy twin of it draws them."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np

GENERATOR = pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "golden" / "generator.py"


def _load_generator():
    # By its path: the folder it lies in has modules named as some here.
    spec = importlib.util.spec_from_file_location("generator", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_generator = _load_generator()


def all_tensors(net, seed: int) -> dict[str, np.ndarray]:
    """Every tensor of a net, by name, f32."""
    return {name: _generator.tensor(name, shape, seed) for name, shape in net.tensors()}


def pictures(net, batch: int, seed: int) -> np.ndarray:
    """Different pictures, [batch, C, H, W] f32; the first of a large batch are those of a small one."""
    return _generator.network_input((batch, *net.input_shape), seed)
