"""What the machine is, by its features, and how busy others keep it."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import time

_FEATURES = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "asimd", "asimdhp", "asimddp", "sve",
)
_TICKS = os.sysconf("SC_CLK_TCK")

# More than this of a core taken by other processes, and times are not to be trusted.
QUIET = 0.05


def describe() -> dict:
    """Features, cores, caches and memory."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(re.search(r"^(?:flags|Features)\s*:(.*)$", info, re.M)[1].split())
    caches = {}
    for index in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        kind = (index / "type").read_text().strip()
        if kind != "Instruction":
            caches[f"L{(index / 'level').read_text().strip()}"] = (index / "size").read_text().strip()
    return {
        "architecture": platform.machine(),
        "features": [feature for feature in _FEATURES if feature in flags],
        "cores": len(os.sched_getaffinity(0)),
        "caches": dict(sorted(caches.items())),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def busy_seconds() -> float:
    """CPU seconds that all processes have used since the start, what a hypervisor took included."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, interrupts, soft_interrupts, stolen = fields
    return (user + nice + system + interrupts + soft_interrupts + stolen) / _TICKS


def process_seconds(pid: int) -> float:
    """CPU seconds of one process, all its threads."""
    # The name, in brackets, may hold anything; the fields are counted after it.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_bytes(pid: int) -> int:
    """The most resident memory that a living process has had."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s*(\d+) kB", status, re.M)[1]) * 1024


def wait_for_quiet(patience_s: float) -> None:
    """Returns once nobody has used the machine for a moment, or after `patience_s`."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        before = busy_seconds()
        time.sleep(0.3)
        if busy_seconds() - before <= 0.3 * QUIET:
            return
