#!/usr/bin/env python3
"""Runs nets on alexc and its peers side by side; see README.md."""

from __future__ import annotations

import bootstrap

bootstrap.enter()

import argparse
import json
import pathlib
import shlex
import sys

import alexc
import contest
import engines
import exports
import nets
import report

REPOSITORY = exports.HERE.parent.parent


def arguments(program: str) -> argparse.ArgumentParser:
    """The arguments that all tools here share."""
    parser = argparse.ArgumentParser(prog=program, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    names = ", ".join([alexc.NAME, *engines.ENGINES])
    parser.add_argument("specs", nargs="+", type=pathlib.Path, help="layer specs (.yaml)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="batch sizes")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="thread counts")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of turns")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights and pictures")
    parser.add_argument("--only", nargs="+", default=[], metavar="ENGINE", help=f"of {names}")
    parser.add_argument("--without", nargs="+", default=[], metavar="ENGINE", help=f"of {names}")
    parser.add_argument("--alexc", type=pathlib.Path, default=REPOSITORY / "target" / "release" / "alexc",
                        help="the alexc command")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME=FLAGS",
                        help="a further row, alexc:NAME, with these flags for alexc")
    parser.add_argument("--tolerance", action="append", default=[], metavar="ROW=NUMBER",
                        help="another allowed error of the logits")
    parser.add_argument("--form", action="append", default=[], metavar="ENGINE=FORM",
                        help="run an engine in this form alone")
    parser.add_argument("--patience", type=float, default=60.0, metavar="SECONDS",
                        help="how long to wait at one batch size and thread count, all in all, for others to "
                             "leave the machine alone")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything as JSON")
    return parser


def plan_of(parser: argparse.ArgumentParser, given: argparse.Namespace) -> contest.Plan:
    """Checks the arguments."""
    known = [alexc.NAME, *engines.ENGINES]
    for name in given.only + given.without:
        if name not in known:
            parser.error(f"no engine {name}; there are {', '.join(known)}")
    wanted = [name for name in known if name in (given.only or known) and name not in given.without]
    if alexc.NAME in wanted and not given.alexc.exists():
        parser.error(f"{given.alexc} is not there: cargo build --release, or --without {alexc.NAME}")
    if min(given.batch + given.threads + [given.rounds]) < 1:
        parser.error("batch sizes, threads and rounds are at least 1")
    variants = _pairs(parser, given.variant)
    return contest.Plan(
        peers=[name for name in wanted if name != alexc.NAME],
        alexc=given.alexc.resolve() if alexc.NAME in wanted else None,
        variants={alexc.NAME: []} | {f"{alexc.NAME}:{name}": shlex.split(flags)
                                     for name, flags in variants.items()},
        only_form=_pairs(parser, given.form),
        tolerances={name: float(value) for name, value in _pairs(parser, given.tolerance).items()},
        rounds=given.rounds,
        turn_s=getattr(given, "turn_seconds", 0.0),
        patience_s=given.patience,
        seed=given.seed,
    )


def _pairs(parser: argparse.ArgumentParser, texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            parser.error(f"{text}: NAME=VALUE is wanted")
    return dict(text.split("=", 1) for text in texts)


def write_json(path: pathlib.Path, document: dict) -> None:
    """Writes a document, whole or not at all."""
    with exports.writing(path.resolve()) as target:
        target.write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    """Exit code 0; 1 where an engine failed; 3 where logits do not agree."""
    parser = arguments("run.py")
    parser.add_argument("--turn-seconds", type=float, default=0.5,
                        help="how long the fastest engine's turn lasts; all run the net equally often")
    given = parser.parse_args()
    plan = plan_of(parser, given)

    measurements = []
    for spec in given.specs:
        files = exports.open_exports(nets.load(spec), plan.seed)
        for batch in given.batch:
            failed = contest.prepare(plan, files, batch)
            for threads in given.threads:
                entries = contest.measure(plan, files, batch, threads, failed)
                found = report.measurement(files.net().name, batch, threads, entries, plan.variants)
                measurements.append(found)
                print(report.contest_table(found), end="\n\n", flush=True)
    document = report.document(plan, measurements)
    print(report.summary_table(measurements, plan.variants), end="\n\n")
    print(report.machine_line(document["machine"]))
    if given.json:
        write_json(given.json, document)

    rows = [row for found in measurements for row in found["engines"]]
    off = any(row["logits_error"] is not None and not row["logits_error"] <= row["tolerance"] for row in rows)
    return 3 if off else int(any(row["problem"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
