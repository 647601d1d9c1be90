"""Instructions of every operator under callgrind: what a change costs, free of noise.

    cmake -S . -B build/cpp -DSPARSEOPS_TESTS=ON && cmake --build build/cpp -j
    python tests/benchmarks/instructions.py --output before.json
    python tests/benchmarks/instructions.py --against before.json

prints a table, and ends with exit code 1 if a case grew by 0.5 %. One thread, fixed input,
`instructions.cpp`. Memory does not count, so a ratio here is no speed-up; a case that grows is one
to explain. Needs valgrind, which knows AVX2 and no AVX-512.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "cpp" / "tests" / "cpp" / "count_instructions"
GROWN = 1.005


def main(arguments=None):
    """Count, print, compare; 1 if a case has grown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=PROGRAM)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="as the table names them")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--against", type=Path, help="JSON file of another build")
    options = parser.parse_args(arguments)
    names = subprocess.check_output([options.program, "--list"], text=True).splitlines()
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"CASE must be one of {names}, got {sorted(unknown)}")
    found = {name: count(options.program, name) for name in options.only or names}
    before = json.loads(options.against.read_text()) if options.against else {}
    print(table(found, before))
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(grown(found, before)))


def count(program, name):
    """Instructions between the beginning and the end of `counted`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        tool = ["valgrind", "--tool=callgrind", "--toggle-collect=counted", "--quiet"]
        run = [*tool, f"--callgrind-out-file={out}", str(program), name]
        subprocess.run(run, check=True, stderr=subprocess.PIPE)
        return total(out.read_text())


def total(text):
    """The sum that a file of callgrind ends with."""
    return int(re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)[1])


def grown(found, before):
    """The cases that both have and that take more."""
    return [name for name in found if found[name] > GROWN * before.get(name, float("inf"))]


def table(found, before):
    """Millions of instructions, as Markdown, and the ratio to those before."""
    lines = ["| case | million instructions |", "|---|---|"]
    if before:
        lines = ["| case | million instructions | before | ratio |", "|---|---|---|---|"]
    for name, n in found.items():
        line = f"| {name} | {n / 1e6:,.2f} |"
        if before:
            old = before.get(name)
            line += f" {old / 1e6:,.2f} | {n / old:.3f} |" if old else " | |"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
