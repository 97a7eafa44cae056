"""onnxruntime's CPU provider."""

from __future__ import annotations

from engines import onnx_files

NAME = "onnxruntime"
TOLERANCE = 2e-5


def forms(net, batch):
    return onnx_files.forms(net, ("native", "pool", "pool2d"))


export = onnx_files.export


def version() -> str:
    import onnxruntime

    return onnxruntime.__version__


def load(exports, form, batch, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = str(exports.model(f"{form}.onnx", batch))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (output,) = (value.name for value in session.get_outputs())
    return lambda pictures: session.run([output], {"input": pictures})[0]
