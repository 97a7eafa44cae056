"""The tables for people and the document for scripts."""

from __future__ import annotations

import statistics

import machine
from contest import Entry, Plan


def measurement(net: str, batch: int, threads: int, entries: list[Entry], variants: dict) -> dict:
    """One contest as JSON: every engine's times, and every variant of alexc against every peer."""
    rows = [entry.summary() for entry in entries]
    shares = [turn.others_share for entry in entries for turn in entry.turns]
    peers = [row for row in rows if row["engine"] not in variants and row["min_ms"]]
    ratios = {}
    for row in rows:
        if row["engine"] in variants and row["min_ms"]:
            ratios[row["engine"]] = {
                key: {peer["engine"]: row[key] / peer[key] for peer in peers}
                for key in ("min_ms", "median_ms")}
    return {
        "net": net, "batch": batch, "threads": threads, "engines": rows,
        "fastest_peer": {
            key: min(peers, key=lambda row: row[key])["engine"] for key in ("min_ms", "median_ms")
        } if peers else None,
        "ratios": ratios,
        "others_share_of_a_core": {
            "mean": statistics.fmean(shares), "max": max(shares)} if shares else None,
    }


def document(plan: Plan, measurements: list[dict]) -> dict:
    """Everything."""
    return {"machine": machine.describe(), "rounds": plan.rounds, "seed": plan.seed,
            "measurements": measurements}


def machine_line(found: dict) -> str:
    """The machine in one line."""
    caches = ", ".join(f"{level} {size}" for level, size in found["caches"].items())
    return (f"{found['architecture']}, {found['cores']} cores, {caches}, "
            f"{found['memory_bytes'] / 2**30:.0f} GiB; {' '.join(found['features'])}")


def contest_table(found: dict) -> str:
    """One contest: a row an engine, the ratios of each variant of alexc beside it."""
    ours = list(found["ratios"])
    head = ["engine", "version", "form", "logits error", "min ms", "median ms"]
    head += [f"{name} / it, {key}" for name in ours for key in ("min", "median")]
    lines = []
    for row in found["engines"]:
        error = "" if row["logits_error"] is None else f"{row['logits_error']:.1e}"
        line = [row["engine"], row["version"], row["form"], error]
        if row["problem"]:
            line += [row["problem"]] + [""] * (len(head) - 5)
        else:
            line += [f"{row['min_ms']:.2f}", f"{row['median_ms']:.2f}"]
            for name in ours:
                for key in ("min_ms", "median_ms"):
                    ratio = found["ratios"][name][key].get(row["engine"])
                    line.append("" if ratio is None else f"{ratio:.3f}")
        lines.append(line)
    text = f"## {found['net']}, batch {found['batch']}, {found['threads']} threads\n\n{table(head, lines)}"
    share = found["others_share_of_a_core"]
    if share and share["mean"] > machine.QUIET:
        text += (f"\n\nOther processes took {share['mean']:.0%} of a core meanwhile (at most "
                 f"{share['max']:.0%} in a turn): these times are not to be trusted.")
    return text


def summary_table(measurements: list[dict], variants: dict) -> str:
    """All contests: the times' minima, and alexc against the fastest peer."""
    names = list(dict.fromkeys(row["engine"] for found in measurements for row in found["engines"]))
    ours = [name for name in names if name in variants]
    head = ["net", "batch", "threads", *(f"{name}, ms" for name in names)]
    head += [f"{name} / fastest peer, {key}" for name in ours for key in ("min", "median")]
    lines = []
    for found in measurements:
        times = {row["engine"]: row["min_ms"] for row in found["engines"]}
        line = [found["net"], str(found["batch"]), str(found["threads"])]
        line += [f"{times[name]:.2f}" if times.get(name) else "-" for name in names]
        for name in ours:
            for key in ("min_ms", "median_ms"):
                ratios = found["ratios"].get(name, {}).get(key)
                line.append(f"{max(ratios.values()):.3f}" if ratios else "-")
        lines.append(line)
    return f"## Summary (minima)\n\n{table(head, lines)}"


def table(head: list[str], lines: list[list[str]]) -> str:
    """Aligned Markdown."""
    widths = [max(map(len, column)) for column in zip(head, *lines)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in [head, rule, *lines])
