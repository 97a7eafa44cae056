"""OpenVINO's CPU plugin. It may choose bf16 by itself, so f32 is asked for."""

from __future__ import annotations

from engines import onnx_files

NAME = "openvino"
TOLERANCE = 2e-5


def forms(net, batch):
    return onnx_files.forms(net, ("native", "pool", "pool2d"))


export = onnx_files.export


def version() -> str:
    import openvino

    return openvino.__version__.split("-")[0]


def load(exports, form, batch, threads):
    import openvino

    model = openvino.Core().read_model(exports.model(f"{form}.onnx", batch))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.compile_model(model, "CPU", settings).create_infer_request()

    def run(pictures):
        request.infer({0: pictures}, share_inputs=True)
        return request.get_output_tensor(0).data

    return run
