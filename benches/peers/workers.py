"""Engines as processes that sleep, stopped, except while it is their turn.

The thread pools of most engines spin for a while when a run is over, and would take the cores
from the next engine. A stopped process (SIGSTOP) cannot; it is continued for its own turn and runs
there at its best, with the settings that its makers chose.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time

import exports
import machine

HERE = pathlib.Path(__file__).resolve().parent
_PR_SET_PDEATHSIG = 1
# The system counts CPU time in ticks, at other moments than a process's.
_TICKS_OF_DOUBT_S = 0.03


class WorkerError(Exception):
    """A worker ended, or answered something else than was agreed."""


@dataclasses.dataclass
class Turn:
    """The times of one turn, and the share of a core that other processes took meanwhile."""

    times_ms: list[float]
    others_share: float


class Worker:
    """A process that answers an iteration count on a line with a JSON line of times."""

    def __init__(self, name: str, command: list[str], threads: int, patience_s: float = 900.0):
        self.name = name
        self._patience_s = patience_s
        self._log = tempfile.TemporaryFile()
        self._rest = b""
        libc = ctypes.CDLL(None)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            cwd=exports.WORK, env=_environment(threads),
            # A process group of its own, so that its helpers stop with it; and none outlives us,
            # which a stopped process otherwise would.
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def read(self) -> dict:
        """The next line that the process prints."""
        end = time.monotonic() + self._patience_s
        stdout = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise WorkerError(f"{self.name}: no answer in {self._patience_s:.0f} s")
            data = os.read(stdout, 1 << 16)
            if not data:
                raise WorkerError(f"{self.name}: ended with {self._process.wait()}: {self._last_words()}")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            raise WorkerError(f"{self.name}: not JSON: {line[:200]!r}") from None

    def iterate(self, count: int) -> list[float]:
        """Runs the net `count` times; ms of each."""
        try:
            self._process.stdin.write(b"%d\n" % count)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"{self.name}: ended with {self._process.wait()}: {self._last_words()}") from None
        times = self.read().get("times_ms", [])
        if len(times) != count:
            raise WorkerError(f"{self.name}: {len(times)} times for {count} runs")
        return times

    def turn(self, warmup: int, count: int) -> Turn:
        """Continues the process, lets it run, and stops it again."""
        self._signal(signal.SIGCONT)
        try:
            if warmup:
                self.iterate(warmup)
            start, busy, own = time.monotonic(), machine.busy_seconds(), machine.process_seconds(self.pid)
            times = self.iterate(count)
            busy, own = machine.busy_seconds() - busy, machine.process_seconds(self.pid) - own
            others = max(0.0, busy - own - _TICKS_OF_DOUBT_S)
            return Turn(times, others / (time.monotonic() - start))
        finally:
            self.pause()

    def pause(self) -> None:
        """Stops the process until its next turn."""
        self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """Ends the process."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def peer_command(engine: str, form: str, files: exports.Exports, batch: int, threads: int, logits: pathlib.Path) -> list[str]:
    """The command of a peer's worker."""
    return [sys.executable, str(HERE / "worker.py"), engine, form, str(files.root), str(batch),
            str(threads), str(logits)]


def _environment(threads: int) -> dict[str, str]:
    count = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        # Compilers' caches and helpers, for torch.compile.
        "TORCHINDUCTOR_CACHE_DIR": str(exports.WORK / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "PYTHONPATH": str(HERE),
    }
