"""Runs the nets of specs/ in PyTorch, in float64, and writes what the tests compare with:
nets/NAME-bBATCH.safetensors with

    logits                 all of them, before softmax                     F64 [N, classes]
    LAYER.positions        64 places in the flattened value of a layer     I64 [64]
    LAYER.values           the elements there                              F64 [64]
    LAYER.norm             the L2 norm of the whole value                  F64 [1]

(layers of the four AlexNets only). Weights are those of `--weights random:7`, the input is the
stream `input` of seed 8 (generator.py). Nothing here is tuned: another seed does as well.

Run it anywhere: python tests/golden/make_golden.py [NAME ...]
Needs torch, torchvision, safetensors and 4 GB of memory.
"""

import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

import generator
import nets

HERE = pathlib.Path(__file__).parent
WEIGHTS_SEED = 7
INPUT_SEED = 8
SAMPLES = 64


def sample(name, value):
    """Places spread over the whole value by the generator, and what stands there."""
    flat = value.flatten()
    u = generator.unit(f"{name}.positions", INPUT_SEED, 0, SAMPLES)
    positions = np.floor(u * flat.numel()).astype(np.int64)
    return {
        f"{name}.positions": positions,
        f"{name}.values": flat[torch.from_numpy(positions)].numpy(),
        f"{name}.norm": np.array([torch.linalg.vector_norm(flat).item()]),
    }


def run(name, batch):
    net = nets.build(name)
    generator.fill(net, WEIGHTS_SEED)
    net.double()
    drawn = generator.network_input(nets.input_shape(name, batch), INPUT_SEED)
    with torch.no_grad():
        made, logits = net.values(torch.from_numpy(drawn).double())
    tensors = {"logits": logits.numpy()}
    for layer, value in made.items():
        tensors |= sample(layer, value)
    return tensors


def main():
    (HERE / "nets").mkdir(exist_ok=True)
    for name in sys.argv[1:] or nets.NETS:
        for batch in nets.BATCHES[name]:
            tensors = run(name, batch)
            about = {"weights": f"random:{WEIGHTS_SEED}", "input": f"seed {INPUT_SEED}",
                     "torch": torch.__version__}
            path = HERE / "nets" / f"{name}-b{batch}.safetensors"
            save_file(tensors, path, metadata=about)
            path.chmod(0o644)
            logits = tensors["logits"]
            print(f"{path.name}: {path.stat().st_size} bytes, logits {logits.min():.3f} .. "
                  f"{logits.max():.3f}, largest at {logits.argmax(1).tolist()}")


if __name__ == "__main__":
    main()
