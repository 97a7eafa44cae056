"""Writes the files of one net for one engine and batch. Runs as a process of its own, since
converters of other projects may crash and their libraries are large.

Usage: prepare.py FOLDER SEED BATCH ENGINE|reference [FORM...]
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

import engines
import weights
from exports import Exports, writing


def main(folder: str, seed: str, batch: str, engine: str, *forms: str) -> None:
    """Writes what is not there yet."""
    exports = Exports(pathlib.Path(folder))
    if engine == "reference":
        _reference(exports, int(seed), int(batch))
        return
    for form in forms:
        engines.ENGINES[engine].export(exports, form, int(batch))


def _reference(exports: Exports, seed: int, batch: int) -> None:
    import torch

    import torch_net

    net = exports.net()
    if not exports.weights.exists():
        with writing(exports.weights) as path:
            save_file(weights.all_tensors(net, seed), path)
    if not exports.input(batch).exists():
        with writing(exports.input(batch)) as path:
            np.save(path, weights.pictures(net, batch, seed))
    if not exports.reference(batch).exists():
        model = torch_net.TorchNet(net, load_file(exports.weights)).double()
        pictures = torch.from_numpy(np.load(exports.input(batch))).double()
        with torch.inference_mode():
            logits = model(pictures).flatten(1).numpy()
        if not np.isfinite(logits).all():
            raise ValueError(f"{net.name}: PyTorch's own logits are not finite")
        with writing(exports.reference(batch)) as path:
            np.save(path, logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
