"""ncnn, its model file made by pnnx from TorchScript.

ncnn knows no batch: several pictures run one after another on all threads, or as many at a time
as there are threads.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile
import warnings

NAME = "ncnn"
TOLERANCE = 2e-5


def forms(net, batch):
    return ["images in turn", "image a thread"] if batch > 1 else ["plain"]


def export(exports, form, batch):
    import pnnx
    import torch
    from safetensors.numpy import load_file

    import torch_net

    files = [exports.model(name) for name in ("ncnn.bin", "ncnn.param")]
    if files[-1].exists():
        return
    net = exports.net()
    with tempfile.TemporaryDirectory(dir=exports.root) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and what pnnx reads
        script = pathlib.Path(folder) / "model.pt"
        zeros = torch.zeros(1, *net.input_shape)
        with torch.inference_mode():
            torch.jit.trace(torch_net.TorchNet(net, load_file(exports.weights)), zeros).save(str(script))
        shape = ",".join(map(str, zeros.shape))
        subprocess.run([pnnx.EXEC_PATH, script, f"inputshape=[{shape}]", "fp16=0"], check=True,
                       cwd=folder, stdout=subprocess.DEVNULL)
        for file in files:  # the .param last: it says that both are there
            os.replace(script.with_name(f"model.{file.name}"), file)


def version() -> str:
    import ncnn

    return ncnn.__version__


def load(exports, form, batch, threads):
    import concurrent.futures

    import ncnn
    import numpy as np

    side_by_side = form == "image a thread"
    net = ncnn.Net()
    net.opt.num_threads = 1 if side_by_side else threads
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    net.load_param(str(exports.model("ncnn.param")))
    net.load_model(str(exports.model("ncnn.bin")))

    def answer(picture):
        extractor = net.create_extractor()
        # A Mat borrows the array that it is given: `picture` lives until the answer is there.
        extractor.input("in0", ncnn.Mat(picture))
        failed, logits = extractor.extract("out0")
        if failed:
            raise RuntimeError(f"ncnn answered {failed}")
        return np.array(logits).reshape(-1)

    if side_by_side:
        pool = concurrent.futures.ThreadPoolExecutor(threads)
        return lambda pictures: np.stack(list(pool.map(answer, pictures)))
    return lambda pictures: np.stack([answer(picture) for picture in pictures])
