"""PyTorch itself: eager, with channels last, and compiled (which needs a C++ compiler)."""

from __future__ import annotations

import shutil

NAME = "pytorch"
TOLERANCE = 2e-5


def forms(net, batch):
    compiled = ["compiled"] if shutil.which("c++") or shutil.which("g++") else []
    return ["eager", "channels last", *compiled]


def export(exports, form, batch):
    """Nothing: PyTorch reads the weight file."""


def version() -> str:
    import torch

    return torch.__version__.split("+")[0]


def load(exports, form, batch, threads):
    import torch
    from safetensors.numpy import load_file

    import torch_net

    torch.set_num_threads(threads)
    model = torch_net.TorchNet(exports.net(), load_file(exports.weights))
    layout = torch.channels_last if form == "channels last" else torch.contiguous_format
    model = model.to(memory_format=layout)
    if form == "compiled":
        import torch._inductor.config

        torch._inductor.config.freezing = True  # weights are constants: pack them
        model = torch.compile(model)

    def run(pictures):
        # Freezing is refused under inference_mode.
        with torch.no_grad() if form == "compiled" else torch.inference_mode():
            return model(torch.from_numpy(pictures).contiguous(memory_format=layout)).flatten(1).numpy()

    return run
