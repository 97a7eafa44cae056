#!/usr/bin/env python3
"""How long a new process takes to its first answer, and its peak memory; see README.md.

For a peer the time runs from after the imports of Python and the library to the first logits:
load plus first run. For alexc it is the whole `alexc run` command, from its start to its end,
logits written to a file.
"""

from __future__ import annotations

import bootstrap

bootstrap.enter()

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import alexc
import contest
import engines
import exports
import nets
import report
import run
import workers

# Minutes of compilation are no contender for a first answer.
_LEFT_OUT = {("pytorch", "compiled")}


def of_alexc(plan, flags, files, batch, threads, logits) -> dict:
    """One run of the command."""
    command = alexc.run_command(plan.alexc, flags, files, batch, threads, logits)
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        # The largest memory of the child alone, if that is more than this small process has.
        _, status, usage = os.wait4(process.pid, 0)
        total_ms = (time.perf_counter() - start) * 1e3
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            words = contest.one_line(log.read().decode(errors="replace"))
            raise workers.WorkerError(f"alexc run ended with {process.returncode}: {words}")
    return {"first_answer_ms": total_ms, "process_ms": total_ms, "peak_bytes": usage.ru_maxrss * 1024}


def of_peer(name, form, files, batch, threads, logits) -> dict:
    """One new worker up to its first logits."""
    start = time.perf_counter()
    worker = workers.Worker(name, workers.peer_command(name, form, files, batch, threads, logits), threads)
    try:
        found = worker.read()
        return {"first_answer_ms": found["load_ms"] + found["first_ms"],
                "process_ms": (time.perf_counter() - start) * 1e3,
                "peak_bytes": found["peak_bytes"], "idle_bytes": found["idle_bytes"]}
    finally:
        worker.close()


def measure(plan, files, batch, threads) -> list[dict]:
    """All engines and forms, one new process each in every round."""
    failed = contest.prepare(plan, files, batch)
    net, reference = files.net(), np.load(files.reference(batch))
    rows = []
    if plan.alexc:
        rows += [{"engine": name, "form": " ".join(flags) or "default", "tolerance": alexc.TOLERANCE}
                 for name, flags in plan.variants.items()]
    for name in plan.peers:
        rows += [{"engine": name, "form": form, "tolerance": engines.ENGINES[name].TOLERANCE,
                  "problem": failed.get(name)}
                 for form in engines.ENGINES[name].forms(net, batch)
                 if (name, form) not in _LEFT_OUT and plan.only_form.get(name, form) == form]
    for row in rows:
        row["tolerance"] = plan.tolerances.get(row["engine"], row["tolerance"])
        row["runs"] = []
    for path in files.root.iterdir():
        path.read_bytes()  # into the page cache, for all alike

    quiet = contest.Quiet(plan.patience_s)
    for number in range(plan.rounds):
        first = number % len(rows)
        for row in rows[first:] + rows[:first]:
            if row.get("problem"):
                continue
            contest.say(f"round {number + 1} of {plan.rounds}: {row['engine']} ({row['form']})")
            with tempfile.TemporaryDirectory() as folder:
                logits = pathlib.Path(folder) / "logits.npy"
                quiet.wait()
                try:
                    if row["engine"] in plan.variants:
                        flags = plan.variants[row["engine"]]
                        found = of_alexc(plan, flags, files, batch, threads, logits)
                    else:
                        found = of_peer(row["engine"], row["form"], files, batch, threads, logits)
                    answer = np.load(logits)
                    row["logits_error"] = contest.relative_error(answer.reshape(len(answer), -1), reference)
                    if not row["logits_error"] <= row["tolerance"]:
                        raise workers.WorkerError(f"logits are {row['logits_error']:.1e} off")
                    row["runs"].append(found)
                except (OSError, workers.WorkerError) as error:
                    row["problem"], row["runs"] = contest.one_line(str(error)), []
    return rows


def table(net: str, batch: int, threads: int, rows: list[dict]) -> str:
    """A row for each engine and form."""
    head = ["engine", "form", "first answer ms, min", "median", "whole process ms, min",
            "peak MB", "of it before loading"]
    lines = []
    for row in rows:
        line = [row["engine"], row["form"]]
        if row.get("problem"):
            line += [row["problem"]] + [""] * 4
        else:
            times = [found["first_answer_ms"] for found in row["runs"]]
            peak = max(found["peak_bytes"] for found in row["runs"])
            idle = max(found.get("idle_bytes", 0) for found in row["runs"])
            line += [f"{min(times):.0f}", f"{statistics.median(times):.0f}",
                     f"{min(found['process_ms'] for found in row['runs']):.0f}",
                     f"{peak / 1e6:.0f}", f"{idle / 1e6:.0f}"]
        lines.append(line)
    return f"## {net}, batch {batch}, {threads} threads: first answer\n\n{report.table(head, lines)}"


def main() -> int:
    """Exit code 0; 1 where an engine failed or its logits are off."""
    parser = run.arguments("first_answer.py")
    given = parser.parse_args()
    plan = run.plan_of(parser, given)
    measurements = []
    for spec in given.specs:
        files = exports.open_exports(nets.load(spec), plan.seed)
        for batch in given.batch:
            for threads in given.threads:
                rows = measure(plan, files, batch, threads)
                name = files.net().name
                measurements.append({"net": name, "batch": batch, "threads": threads, "engines": rows})
                print(table(name, batch, threads, rows), end="\n\n", flush=True)
    document = report.document(plan, measurements)
    print(report.machine_line(document["machine"]))
    if given.json:
        run.write_json(given.json, document)
    return int(any(row.get("problem") for found in measurements for row in found["engines"]))


if __name__ == "__main__":
    sys.exit(main())
