"""One measurement: a net at a batch size and a thread count, every engine in turn.

Every form of every engine first answers the pictures; only a form whose logits agree with
PyTorch's in f64 goes on. A short trial keeps each engine's fastest form. Then the rounds: each
engine runs the net the same number of times, one engine after the other, and each round begins
with another engine.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import alexc
import engines
import machine
import workers
from exports import HERE, Exports
from workers import Turn, Worker, WorkerError


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be measured, and how long."""

    peers: list[str]
    alexc: pathlib.Path | None
    # Name of a row to further flags of alexc.
    variants: dict[str, list[str]]
    # Name of a row to the one form to run.
    only_form: dict[str, str]
    tolerances: dict[str, float]
    rounds: int
    turn_s: float
    # How long all waiting for a quiet machine may take in one contest.
    patience_s: float
    seed: int


@dataclasses.dataclass
class Entry:
    """One engine in one form."""

    name: str
    form: str
    tolerance: float
    version: str = ""
    error: float | None = None
    problem: str | None = None
    trial: list[Turn] = dataclasses.field(default_factory=list)
    turns: list[Turn] = dataclasses.field(default_factory=list)
    worker: Worker | None = None

    def summary(self) -> dict:
        """What is reported of it; times only where the logits agree."""
        times = [time for turn in self.turns for time in turn.times_ms]
        return {
            "engine": self.name, "form": self.form, "version": self.version,
            "logits_error": self.error, "tolerance": self.tolerance, "problem": self.problem,
            "trial_ms": [min(turn.times_ms) for turn in self.trial],
            "min_ms": min(times, default=None),
            "median_ms": statistics.median(times) if times else None,
            "rounds_ms": [[round(time, 4) for time in turn.times_ms] for turn in self.turns],
        }


def say(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def one_line(text: str) -> str:
    """What a program said, fit for a cell of a table."""
    return " ".join(text.replace("|", "/").split())[:300] or "it said nothing"


def prepare(plan: Plan, files: Exports, batch: int) -> dict[str, str]:
    """Writes all files for a batch size. Answers with the engines that could not, and why."""
    net = files.net()
    _prepare_one(plan, files, batch, "reference", [])
    failed = {}
    for name in plan.peers:
        try:
            _prepare_one(plan, files, batch, name, engines.ENGINES[name].forms(net, batch))
        except WorkerError as error:
            failed[name] = str(error)
    return failed


def _prepare_one(plan: Plan, files: Exports, batch: int, name: str, forms: list[str]) -> None:
    say(f"{files.root.name}: files for {name}, batch {batch}")
    command = [sys.executable, HERE / "prepare.py", files.root, str(plan.seed), str(batch), name, *forms]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        words = one_line("".join(done.stderr.strip().splitlines()[-1:]))
        raise WorkerError(f"export for {name} ended with {done.returncode}: {words}")


def relative_error(logits: np.ndarray, reference: np.ndarray) -> float:
    """The largest relative L2 error of a picture's logits, each picture's own mean taken away."""
    def centred(values):
        values = values.astype(np.float64)
        return values - values.mean(axis=1, keepdims=True)

    if logits.shape != reference.shape:
        raise WorkerError(f"logits have shape {logits.shape}, not {reference.shape}")
    wrong = np.linalg.norm(centred(logits) - centred(reference), axis=1)
    return float((wrong / np.linalg.norm(centred(reference), axis=1)).max())


def measure(plan: Plan, files: Exports, batch: int, threads: int, failed: dict[str, str]) -> list[Entry]:
    """Runs the contest. `failed` names engines that have no files."""
    entries = _entries(plan, files, batch, failed)
    try:
        for entry in entries:
            if entry.problem is None:
                say(f"{files.root.name}, batch {batch}, {threads} threads: loading {entry.name} ({entry.form})")
                _start(plan, entry, files, batch, threads)
        quiet = Quiet(plan.patience_s)
        chosen = _fastest_forms(quiet, entries)
        running = [entry for entry in chosen if entry.worker]
        if running:
            _rounds(plan, quiet, running)
        return chosen
    finally:
        for entry in entries:
            if entry.worker:
                entry.worker.close()


class Quiet:
    """Turns on a quiet machine, as long as patience lasts.

    A turn in which other processes took part of the cores is measured again. Their CPU time alone
    decides that, never the times measured, so nothing is picked by its result.
    """

    def __init__(self, patience_s: float):
        self._left_s = patience_s

    def turn(self, entry: Entry, warmup: int, count: int) -> Turn:
        """The first undisturbed turn, or the last one."""
        while True:
            self.wait()
            start = time.monotonic()
            turn = entry.worker.turn(warmup, count)
            if turn.others_share <= machine.QUIET or self._left_s <= 0:
                return turn
            self._left_s -= time.monotonic() - start

    def wait(self) -> None:
        """Returns when the machine is quiet, or patience is at its end."""
        start = time.monotonic()
        machine.wait_for_quiet(self._left_s)
        self._left_s -= time.monotonic() - start


def _entries(plan: Plan, files: Exports, batch: int, failed: dict[str, str]) -> list[Entry]:
    entries = []
    if plan.alexc:
        for name in plan.variants:
            entries.append(Entry(name, " ".join(plan.variants[name]) or "default", alexc.TOLERANCE))
    net = files.net()
    for name in plan.peers:
        engine = engines.ENGINES[name]
        for form in engine.forms(net, batch):
            if plan.only_form.get(name, form) == form:
                entries.append(Entry(name, form, engine.TOLERANCE, problem=failed.get(name)))
    for entry in entries:
        entry.tolerance = plan.tolerances.get(entry.name, entry.tolerance)
    return entries


def _start(plan: Plan, entry: Entry, files: Exports, batch: int, threads: int) -> None:
    """Loads, checks the logits, and leaves the worker stopped; a failure becomes the entry's problem."""
    with tempfile.TemporaryDirectory() as folder:
        logits = pathlib.Path(folder) / "logits.npy"
        try:
            if entry.name in plan.variants:
                flags = plan.variants[entry.name]
                command = alexc.run_command(plan.alexc, flags, files, batch, threads, logits)
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise WorkerError(f"alexc run ended with {done.returncode}: {one_line(done.stderr)}")
                entry.version = alexc.version(plan.alexc)
                entry.worker = Worker(entry.name, alexc.bench_command(
                    plan.alexc, flags, files, batch, threads), threads)
                entry.worker.iterate(1)
            else:
                entry.worker = Worker(entry.name, workers.peer_command(
                    entry.name, entry.form, files, batch, threads, logits), threads)
                entry.version = entry.worker.read()["version"]
            found = np.load(logits)
            entry.error = relative_error(found.reshape(len(found), -1), np.load(files.reference(batch)))
            if not entry.error <= entry.tolerance:
                raise WorkerError(f"logits are {entry.error:.1e} off, allowed is {entry.tolerance:.0e}")
            entry.worker.pause()
            entry.trial.append(entry.worker.turn(1, 1))
        except (OSError, WorkerError) as error:
            _drop(entry, one_line(str(error)))


def _take_turn(quiet: Quiet, entry: Entry, warmup: int, count: int) -> Turn | None:
    try:
        return quiet.turn(entry, warmup, count)
    except (OSError, WorkerError) as error:
        _drop(entry, one_line(str(error)))
        return None


def _drop(entry: Entry, problem: str | None) -> None:
    entry.problem = problem
    entry.turns.clear()
    if entry.worker:
        entry.worker.close()
        entry.worker = None


def _fastest_forms(quiet: Quiet, entries: list[Entry]) -> list[Entry]:
    """Short interleaved turns for each form of an engine, three where there are several; one is kept.

    An engine none of whose forms works is kept with its first form's problem.
    """
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.name, []).append(entry)
    chosen = []
    for forms in by_name.values():
        working = [entry for entry in forms if entry.worker]
        for _ in range(3 if len(working) > 1 else 1):
            for entry in working:
                if entry.worker:
                    count = max(1, min(20, math.ceil(250 / _trial_ms(entry))))
                    entry.trial += filter(None, [_take_turn(quiet, entry, 1, count)])
        working = sorted((entry for entry in working if entry.worker), key=_trial_ms)
        for entry in working[1:]:
            _drop(entry, None)
        chosen.append((working or forms)[0])
    return chosen


def _trial_ms(entry: Entry) -> float:
    return min(time for turn in entry.trial for time in turn.times_ms)


def _rounds(plan: Plan, quiet: Quiet, entries: list[Entry]) -> None:
    fastest = min(map(_trial_ms, entries))
    count = max(3, min(200, math.ceil(plan.turn_s * 1e3 / fastest)))
    warmup = max(1, min(5, count // 5))
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}, {count} runs each")
        first = number % len(entries)
        for entry in entries[first:] + entries[:first]:
            if entry.worker:
                turn = _take_turn(quiet, entry, warmup, count)
                if turn:
                    entry.turns.append(turn)
