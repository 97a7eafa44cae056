"""Where the files of one net lie that the engines read, and what is in them.

A folder under `.work` holds one net at one seed: the spec without its final softmax, one weight
file that every format can point into, and for each batch the input, PyTorch's answer in f64 and
the engines' own model files. The folder's name carries a digest of everything that shapes its
content, so a change anywhere makes a new folder and nothing stale is ever measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import yaml

import nets

HERE = pathlib.Path(__file__).resolve().parent
WORK = HERE / ".work"

# What shapes the content of a folder, the engines' modules aside.
_SOURCES = [HERE / name for name in (
    "requirements.txt", "exports.py", "nets.py", "onnx_net.py", "prepare.py", "torch_net.py", "weights.py")]
_SOURCES.append(HERE.parent.parent / "tests" / "golden" / "generator.py")


@dataclasses.dataclass(frozen=True)
class Exports:
    """The files of one net."""

    root: pathlib.Path

    @property
    def spec(self) -> pathlib.Path:
        """The layer spec up to the logits."""
        return self.root / "spec.yaml"

    @property
    def weights(self) -> pathlib.Path:
        """All tensors, f32."""
        return self.root / "weights.safetensors"

    def input(self, batch: int) -> pathlib.Path:
        """The pictures, [batch, C, H, W]."""
        return self.root / f"input-b{batch}.npy"

    def reference(self, batch: int) -> pathlib.Path:
        """PyTorch's logits in f64."""
        return self.root / f"reference-b{batch}.npy"

    def model(self, name: str, batch: int | None = None) -> pathlib.Path:
        """A model file of an engine, for a fixed batch or for any."""
        stem, suffix = name.split(".", 1)
        return self.root / (name if batch is None else f"{stem}-b{batch}.{suffix}")

    def net(self) -> nets.Net:
        """The net that the spec describes."""
        return nets.read(nets.load(self.spec))


def open_exports(document: dict[str, Any], seed: int) -> Exports:
    """The folder for a spec (as YAML gives it), made if it is not there."""
    kept = nets.without_final_softmax(document)
    digest = hashlib.sha256(json.dumps([kept, seed]).encode())
    for source in _SOURCES + sorted(HERE.glob("engines/*.py")):
        digest.update(source.read_bytes())
    exports = Exports(WORK / f"{kept['name']}-{digest.hexdigest()[:12]}")
    if not exports.root.exists():
        for stale in WORK.glob(f"{kept['name']}-????????????"):
            shutil.rmtree(stale)
        exports.root.mkdir(parents=True)
    with writing(exports.spec) as path:
        path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return exports


@contextlib.contextmanager
def writing(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to, moved onto `target` once the block has ended well."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        path = pathlib.Path(folder) / target.name
        yield path
        os.replace(path, target)
