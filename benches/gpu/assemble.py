#!/usr/bin/env python3
"""What NVIDIA's assembler makes of a net's OpenCL kernels, without a GPU; see README.md."""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
# Of a multiprocessor of sm_80 and later: registers, and how many of an item's are allotted at once.
REGISTERS, STEP = 65536, 8
THREADS = 2048
# Bytes of shared memory, and what a group takes beyond its own.
SHARED = {"sm_80": 164 << 10, "sm_86": 100 << 10, "sm_89": 100 << 10, "sm_90": 228 << 10}
GROUP_SHARED = 1 << 10
COUNTED = ["ld.global.v4", "ld.global", "st.global", "ld.shared.v4", "ld.shared", "st.shared", "fma", "mma", "ld.local"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("spec", type=pathlib.Path, help="a layer spec, or OpenCL C as `alexc dump` prints it (.cl)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--arch", default="sm_90", help="the GPU's generation")
    parser.add_argument("--alexc", type=pathlib.Path, default=REPOSITORY / "target" / "release" / "alexc")
    parser.add_argument("--clang", default="clang", help="clang 15 or later, with the NVPTX target")
    parser.add_argument("--ptxas", default="ptxas", help="NVIDIA's assembler (of CUDA's cuda-nvcc)")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="leave the source and the PTX there")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags for alexc; the last ones")
    return parser.parse_args()


def tool(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        sys.exit(f"{name} is not there: {what}")
    return found


def source_of(given: argparse.Namespace) -> str:
    if given.spec.suffix == ".cl":
        return given.spec.read_text()
    line = [tool(str(given.alexc), "build it, or name it by --alexc"), "dump", str(given.spec), "--stage", "opencl",
            "--schedule", "gpu", "--batch", str(given.batch), *given.flags]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(line)}\nended with {done.returncode}\n{done.stderr}")
    return done.stdout


def groups_of(source: str) -> dict[str, int]:
    """Of each kernel the work-items of a group."""
    head = re.compile(r"(?:reqd_work_group_size|work_group_size_hint)\((\d+), 1, 1\)\)\)\s*void (\w+)\(")
    return {name: int(items) for items, name in head.findall(source)}


def demanded(ptx: str, source: str, groups: dict[str, int]) -> str:
    """With the sizes of groups that the source demands: NVIDIA's compiler takes them over, clang drops them."""
    def head(match: re.Match) -> str:
        if not re.search(rf"reqd_work_group_size[^\n]*\s*void {match[2]}\(", source):
            return match[0]
        return f"{match[1]}\n.reqntid {groups[match[2]]}, 1, 1\n{{"
    return re.sub(r"(\.entry (\w+)\([^)]*\))\s*\{", head, ptx)


def instructions(ptx: str) -> dict[str, dict[str, int]]:
    """Of each kernel how often some instructions stand in its text."""
    counts = {}
    for part in ptx.split(".entry ")[1:]:
        body = part[part.index("{"):]
        plain = re.sub(r"\.(nc|f32|b32|u32|b16|u16|rn|f16|sync|aligned|s8|u8)\b", "", body)
        counts[part[:part.index("(")]] = {
            name: len(re.findall(rf"\b{re.escape(name)}(?!\.v4)\b" if name.startswith(("ld", "st")) else rf"\b{name}\b", plain))
            for name in COUNTED}
    return counts


def assemble(given: argparse.Namespace, folder: pathlib.Path) -> list[dict]:
    source = source_of(given)
    groups = groups_of(source)
    (folder / "net.cl").write_text(source)
    clang = tool(given.clang, "clang with the NVPTX target is wanted, 15 or later; name it by --clang")
    ptxas = tool(given.ptxas, "NVIDIA's assembler comes with CUDA's compiler; name it by --ptxas")
    target = ["-target", "nvptx64-nvidia-nvcl", "-Xclang", "-target-cpu", "-Xclang", "sm_80",
              "-Xclang", "-target-feature", "-Xclang", "+ptx75"]
    subprocess.run([clang, "-x", "cl", "-cl-std=CL1.2", *target, "-Xclang", "-finclude-default-header",
                    "-include", HERE / "builtins.clh", "-O3", "-S", folder / "net.cl", "-o", folder / "net.ptx"], check=True)
    ptx = demanded((folder / "net.ptx").read_text(), source, groups)
    (folder / "net.ptx").write_text(ptx)
    # As the runtime asks for, where a program has products of warps.
    limit = ["--maxrregcount=128"] if "mma.sync" in source else []
    done = subprocess.run([ptxas, f"-arch={given.arch}", "-v", *limit, folder / "net.ptx", "-o", folder / "net.cubin"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    told = re.compile(r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
                      r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)", re.S)
    counts = instructions(ptx)
    rows = []
    for name, stack, stores, loads, registers, rest in told.findall(done.stderr):
        shared = re.search(r"(\d+) bytes smem", rest)
        items, shared = groups[name], int(shared[1]) if shared else 0
        of_item = -(-int(registers) // STEP) * STEP
        by_registers = REGISTERS // (of_item * items)
        by_shared = SHARED.get(given.arch, SHARED["sm_86"]) // (shared + GROUP_SHARED)
        resident = min(by_registers, by_shared, THREADS // items, 32)
        rows.append({"kernel": name, "items": items, "registers": int(registers), "stack": int(stack),
                     "spill_stores": int(stores), "spill_loads": int(loads), "shared": shared,
                     "groups_resident": resident, **counts.get(name, {})})
    return sorted(rows, key=lambda row: list(groups).index(row["kernel"]))


def main() -> int:
    given = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = assemble(given, folder)
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        columns = ["kernel", "items", "registers", "stack", "spill_stores", "spill_loads", "shared", "groups_resident", *COUNTED]
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in rows:
            print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    return 3 if any(row["stack"] or row["spill_stores"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
