"""MNN. Its Winograd points cost accuracy, hence the tolerance.

The converter is called through its binding: the `mnnconvert` command and the package MNN.tools
install a telemetry client into whatever Python they find and report each conversion.
"""

from __future__ import annotations

from engines import onnx_files
from exports import writing

NAME = "mnn"
TOLERANCE = 2e-4


def forms(net, batch):
    # The padded three-dimensional pool crashes the converter.
    spellings = onnx_files.forms(net, ("native", "pool2d"))
    if any(layer.kind == "conv" and layer.groups > 1 for layer in net.layers):
        # Groups split into convolutions of their own, or kept as one.
        return [f"{form}{groups}" for form in spellings for groups in ("", "+groups")]
    return spellings


def export(exports, form, batch):
    import _tools

    spelling, _, groups = form.partition("+")
    onnx_files.export(exports, spelling, batch)
    target = exports.model(f"{form}.mnn", batch)
    if not target.exists():
        with writing(target) as path:
            source = str(exports.model(f"{spelling}.onnx", batch))
            flags = ["--groupConvNative"] if groups else []
            _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", source,
                               "--MNNModel", str(path), "--bizCode", "peers", *flags])


def version() -> str:
    import MNN

    return MNN.version()


def load(exports, form, batch, threads):
    import MNN.expr
    import MNN.nn
    import numpy as np

    settings = {"backend": 0, "numThread": threads, "precision": "high", "memory": "high", "power": "high"}
    runtime = MNN.nn.create_runtime_manager((settings,))
    path = str(exports.model(f"{form}.mnn", batch))
    module = MNN.nn.load_module_from_file(path, ["input"], [exports.net().output], runtime_manager=runtime)

    def run(pictures):
        variable = MNN.expr.placeholder(list(pictures.shape), MNN.expr.NCHW)
        variable.write(pictures)
        (logits,) = module.forward([variable])
        return np.array(logits.read())

    return run
