"""alexc as a contestant: the command lines, with the same spec and the same weight file."""

from __future__ import annotations

import pathlib
import subprocess

from exports import Exports

NAME = "alexc"
# What `--math fast` promises against f64.
TOLERANCE = 5e-6


def version(program: pathlib.Path) -> str:
    """What `alexc --version` says, without the name."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    return said.split()[-1]


def bench_command(program, flags: list[str], files: Exports, batch: int, threads: int) -> list[str]:
    """A process that answers iteration counts with times, as a peer's worker does."""
    return [str(program), "bench", *_common(files, batch, threads), "--interactive", *flags]


def run_command(program, flags: list[str], files: Exports, batch: int, threads: int,
                logits: pathlib.Path) -> list[str]:
    """One run from files to a file."""
    return [str(program), "run", *_common(files, batch, threads), "--input", str(files.input(batch)),
            "--output", str(logits), *flags]


def _common(files: Exports, batch: int, threads: int) -> list[str]:
    return [str(files.spec), "--weights", str(files.weights), "--batch", str(batch), "--threads", str(threads)]
