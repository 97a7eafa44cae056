"""One engine with one net, alive for a whole measurement.

Usage: worker.py ENGINE FORM FOLDER BATCH THREADS LOGITS

Loads the net, runs it once, saves the logits to LOGITS and prints one JSON line about itself.
Then, for each line on standard input, an integer, it runs the net that often and prints one JSON
line `{"times_ms": [...]}`. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time


def memory(field: str) -> int:
    """A size from /proc/self/status in bytes: VmRSS is the resident memory, VmHWM its peak."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def main(name: str, form: str, folder: str, batch: str, threads: str, logits_path: str) -> None:
    """Serves until standard input ends."""
    # Engines print to standard output as they like; the answers go out on a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values) -> None:
        print(json.dumps(values), file=answers, flush=True)

    import numpy as np

    import engines
    from exports import Exports

    engine, exports = engines.ENGINES[name], Exports(pathlib.Path(folder))
    version = engine.version()
    pictures = np.load(exports.input(int(batch)))
    idle_bytes, start = memory("VmRSS"), time.perf_counter()
    run = engine.load(exports, form, int(batch), int(threads))
    loaded = time.perf_counter()
    logits = np.array(run(pictures))
    answered, peak_bytes = time.perf_counter(), memory("VmHWM")
    np.save(logits_path, logits)
    answer(version=version, load_ms=(loaded - start) * 1e3, first_ms=(answered - loaded) * 1e3,
           idle_bytes=idle_bytes, peak_bytes=peak_bytes)

    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter_ns()
            run(pictures)
            times.append((time.perf_counter_ns() - start) / 1e6)
        answer(times_ms=times)


if __name__ == "__main__":
    main(*sys.argv[1:])
