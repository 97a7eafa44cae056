#!/usr/bin/env python3
"""alexc on an OpenCL GPU beside PyTorch with cuDNN under a CUDA graph; see README.md."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PEERS = HERE.parent / "peers"
ENVIRONMENT = HERE / ".venv"
PACKAGES = ["numpy", "PyYAML", "safetensors", "torch"]
MODULES = ["numpy", "yaml", "safetensors", "torch"]
NETS = ["alexnet", "alexnet-torchvision"]
BATCHES = [1, 64]
# What the project asks of itself: the time of a run as a part of PyTorch's.
GOALS = {1: 1.0, 64: 1.5}
# Of `--math`. `fast` promises the first; the others round operands to 11 bits, which makes an error of
# 4e-4 in a layer on average and somewhat more in a net of eight.
TOLERANCES = {"fast": 5e-6, "tf32": 3e-3, "f16": 3e-3}


def enter() -> None:
    """Goes on in a Python that has the packages: this one, or an environment made for them."""
    if all(importlib.util.find_spec(module) for module in MODULES):
        return
    python = ENVIRONMENT / "bin" / "python"
    if pathlib.Path(sys.prefix) == ENVIRONMENT:
        sys.exit(f"{ENVIRONMENT} is incomplete; delete it and begin again")
    if not (ENVIRONMENT / "ready").exists():
        print(f"making {ENVIRONMENT} (about 6 GB, some minutes)", file=sys.stderr)
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stdout=sys.stderr)
        (ENVIRONMENT / "ready").touch()
    os.execv(python, [str(python), *sys.argv])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("specs", nargs="*", type=pathlib.Path, help="layer specs; by default two AlexNets",
                        default=[REPOSITORY / "specs" / f"{name}.yaml" for name in NETS])
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--math", nargs="+", choices=list(TOLERANCES), default=list(TOLERANCES),
                        help="how both sides round; tf32 and f16 only where alexc finds tensor cores")
    parser.add_argument("--device", default="opencl:NVIDIA", help="where alexc runs")
    parser.add_argument("--alexc", type=pathlib.Path, default=REPOSITORY / "target" / "release" / "alexc",
                        help="the command; built if it is not there")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags for alexc; the last ones")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each side runs")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and pictures")
    parser.add_argument("--prepare", action="store_true",
                        help="make the command, the weights and the pictures, and run nothing: for a GPU machine "
                             "without network")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything as JSON")
    return parser.parse_args()


def build(program: pathlib.Path) -> None:
    if not program.exists():
        command = ["cargo", "build", "--release", "--features", "opencl"]
        print("$", *command, file=sys.stderr)
        subprocess.run(command, cwd=REPOSITORY, check=True, stdout=sys.stderr)
    if not program.exists():
        sys.exit(f"{program} is not there, and cargo did not make it")


def files_of(spec: pathlib.Path, batches: list[int], seed: int):
    """The net up to its logits, its weights and pictures, as benches/peers makes them."""
    import numpy as np
    from safetensors.numpy import save_file

    import exports
    import nets
    import weights

    files = exports.open_exports(nets.load(spec), seed)
    net = files.net()
    if not files.weights.exists():
        with exports.writing(files.weights) as path:
            save_file(weights.all_tensors(net, seed), path)
    for batch in batches:
        if not files.input(batch).exists():
            with exports.writing(files.input(batch)) as path:
                np.save(path, weights.pictures(net, batch, seed))
    return files


def alexc(given: argparse.Namespace, command: str, files, batch: int, *further: str) -> str:
    line = [given.alexc, command, files.spec, "--weights", files.weights, "--batch", str(batch),
            "--device", given.device, *further, *given.flags]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, line))}\nended with {done.returncode}\n{done.stderr}")
    return done.stdout


class Torch:
    """The same net in PyTorch on the GPU: in full f32, with tf32 products, or in f16."""

    def __init__(self, files, math: str):
        import torch
        from safetensors.numpy import load_file

        import torch_net

        torch.backends.cuda.matmul.allow_tf32 = math == "tf32"
        torch.backends.cudnn.allow_tf32 = math == "tf32"
        torch.backends.cudnn.benchmark = True
        self.torch = torch
        self.dtype = torch.float16 if math == "f16" else torch.float32
        self.model = torch_net.TorchNet(files.net(), load_file(files.weights))

    def logits(self, pictures):
        """In f64."""
        with self.torch.inference_mode():
            exact = self.model.double().cuda()(self.torch.from_numpy(pictures).double().cuda())
            self.model = self.model.float()
            return exact.flatten(1).cpu().numpy()

    def times(self, pictures, seconds: float) -> dict[str, float]:
        """Least time of a run in ms: on the device alone, and from host memory to host memory, each
        as one CUDA graph; the better of the two orders of dimensions."""
        best: dict[str, float] = {}
        for order in (self.torch.contiguous_format, self.torch.channels_last):
            for name, copies in (("device", False), ("host", True)):
                found = self._graph(pictures, order, copies, seconds / 4)
                best[name] = min(found, best.get(name, found))
        return best

    def _graph(self, pictures, order, copies: bool, seconds: float) -> float:
        torch = self.torch
        model = self.model.to(self.dtype).cuda().to(memory_format=order)
        host = torch.from_numpy(pictures).pin_memory()
        device = torch.empty_like(host, device="cuda", dtype=self.dtype).to(memory_format=order)
        device.copy_(host)
        with torch.inference_mode():
            answer = torch.empty(model(device).shape, dtype=self.dtype).pin_memory()

            def run():
                if copies:
                    device.copy_(host, non_blocking=True)
                logits = model(device)
                if copies:
                    answer.copy_(logits, non_blocking=True)

            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(5):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                run()
        least = float("inf")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            graph.replay()
            torch.cuda.synchronize()
            least = min(least, time.perf_counter() - start)
        return least * 1e3


def limits() -> dict[str, float]:
    """GFLOP/s of f32 at the highest clock, and GB/s of a measured copy."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    asked = subprocess.run(["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"],
                           capture_output=True, text=True, check=True)
    lanes = 64 if (properties.major, properties.minor) == (8, 0) else 128
    gflops = properties.multi_processor_count * lanes * 2 * float(asked.stdout.split()[0]) / 1e3
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    least = float("inf")
    for _ in range(20):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        least = min(least, start.elapsed_time(end))
    return {"gflops": gflops, "gbps": 2 * source.nbytes / least / 1e6, "name": properties.name}


def error_of(found, expected) -> float:
    """Relative L2 error of centred logits, the worst picture's."""
    import numpy as np

    found, expected = (a - a.mean(axis=1, keepdims=True) for a in (found.astype(np.float64), expected))
    return float((np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())


def measure(given: argparse.Namespace, files, batch: int, math: str, cuda: bool) -> dict | None:
    """Nothing where alexc finds no tensor cores for these products."""
    import numpy as np

    pictures = np.load(files.input(batch))
    row = {"net": files.net().name, "batch": batch, "math": math}
    flags = ["--math", math]
    row["alexc"] = json.loads(alexc(given, "bench", files, batch, "--json", *flags))
    if row["alexc"]["math"] != math:
        print(f"{given.device} has no tensor cores for --math {math}", file=sys.stderr)
        return None
    logits = files.root / f"alexc-gpu-b{batch}.npy"
    alexc(given, "run", files, batch, "--input", str(files.input(batch)), "--output", str(logits), *flags)
    found = np.load(logits).reshape(batch, -1)
    row["profile"] = json.loads(alexc(given, "profile", files, batch, "--json", *flags))
    if cuda:
        peer = Torch(files, math)
        row["error"] = error_of(found, peer.logits(pictures))
        row["pytorch"] = peer.times(pictures, given.seconds)
        row["ratio"] = row["alexc"]["min_ms"] / row["pytorch"]["host"]
    return row


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def table(rows: list[dict], limit: dict | None) -> str:
    lines = [f"{platform.node()}: {limit['name']}, {limit['gflops']:.0f} GFLOP/s, {limit['gbps']:.0f} GB/s"
             if limit else "no CUDA device: PyTorch was left out", ""]
    lines += ["| net | batch | math | alexc ms | kernels ms | PyTorch ms | its graph alone | ratio | goal | error |",
              "|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        peer = row.get("pytorch", {})
        lines.append(
            f"| {row['net']} | {row['batch']} | {row['math']} | {row['alexc']['min_ms']:.3f} | "
            f"{row['profile']['total']['min_ms']:.3f} | {number(peer.get('host'), '.3f')} | "
            f"{number(peer.get('device'), '.3f')} | {number(row.get('ratio'), '.2f')} | "
            f"{number(GOALS.get(row['batch']) if row['math'] == 'fast' else None, '.1f')} | {number(row.get('error'), '.1e')} |")
    for row in rows:
        lines += ["", f"{row['net']}, batch {row['batch']}, {row['math']}", "",
                  "| layer | kernel | ms | GFLOP/s | of peak | GB/s | of bandwidth |", "|---|---|---|---|---|---|---|"]
        for layer in row["profile"]["layers"]:
            for kernel in layer["kernels"] or [{**layer, "kernel": "all"}]:
                flops, bytes_ = kernel.get("gflops") or 0.0, kernel.get("gbps") or 0.0
                part = (lambda value, most: f"{100 * value / limit[most]:.0f} %" if limit else "")
                lines.append(f"| {layer['layer']} | {kernel['kernel']} | {kernel['min_ms']:.4f} | {flops:.0f} | "
                             f"{part(flops, 'gflops')} | {bytes_:.0f} | {part(bytes_, 'gbps')} |")
    return "\n".join(lines)


def main() -> int:
    given = arguments()
    enter()
    sys.path.insert(0, str(PEERS))
    build(given.alexc)
    nets = [files_of(spec, given.batch, given.seed) for spec in given.specs]
    if given.prepare:
        print(*(files.root for files in nets), sep="\n")
        return 0
    import torch

    cuda = torch.cuda.is_available()
    limit = limits() if cuda else None
    rows = [measure(given, files, batch, math, cuda)
            for files in nets for batch in given.batch for math in given.math]
    rows = [row for row in rows if row]
    print(table(rows, limit))
    if given.json:
        given.json.write_text(json.dumps({"limits": limit, "rows": rows}, indent=1))
    wrong = [row for row in rows if row.get("error", 0.0) > TOLERANCES[row["math"]]]
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
