"""Run the benchmarks: ``python tests/benchmarks/run.py [--quick] [--only NAME ...]``.

Every ``bench_*.py`` beside this file has ``main(quick) -> list of rows``. Each module's rows go to
``NAME.json``, with the machine, the versions and the commit that they belong to.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from importlib.metadata import packages_distributions, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PEERS = "torch", "fasttext", "gensim", "napkinxc", "sklearn", "scipy"
sys.path[:0] = [str(HERE.parent)]
from benchmarks import timing  # noqa: E402


def main(arguments=None):
    """Run, print the table, write the JSON files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less than five minutes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as: hsoftmax search")
    parser.add_argument("--threads", nargs="+", type=int, help="instead of one, and all")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the JSON files")
    parser.add_argument("--remark", default="", help="what a reader of the results should know")
    options = parser.parse_args(arguments)
    found = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    names = options.only or found
    unknown = set(names) - set(found)
    if unknown:
        parser.error(f"NAME must be one of {', '.join(found)}, got {', '.join(sorted(unknown))}")
    options.output.mkdir(parents=True, exist_ok=True)
    timing.REPEATS = 5 if options.quick else timing.REPEATS
    timing.THREADS = options.threads
    start, results, failed = time.perf_counter(), [], []
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        before = time.perf_counter()
        try:
            rows = importlib.import_module(f"benchmarks.bench_{name}").main(options.quick)
        except Exception:  # what the others measured is worth keeping
            traceback.print_exc()
            failed.append(name)
            continue
        results += rows
        write(options, name, rows, time.perf_counter() - before)
        print(f"   {time.perf_counter() - before:.0f} s", file=sys.stderr, flush=True)
    print(table(results))
    print(f"{time.perf_counter() - start:.0f} s in all", file=sys.stderr)
    return f"failed: {', '.join(failed)}" if failed else None


def write(options, name, rows, seconds):
    """NAME.json: the rows of one module, and all that says where they come from."""
    flags = " --quick" if options.quick else ""
    if options.threads:
        flags += " --threads " + " ".join(map(str, options.threads))
    record = {
        "bench": name,
        "command": f"python tests/benchmarks/run.py --only {name}{flags}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "seconds": round(seconds),
        "remark": options.remark,
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    text = json.dumps(rounded(record), indent=1) + "\n"
    (options.output / f"{name}.json").write_text(text, encoding="utf-8")


def rounded(value):
    """Times and ratios with four digits: more are noise, and would fill the files."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def commit():
    """The last change of what is measured; with a plus if files differ from it."""
    git = ["git", "-C", str(HERE.parents[1])]
    measured = ["src", "cython_sparseops", "CMakeLists.txt"]
    try:
        name = subprocess.run([*git, "log", "-1", "--format=%h", "--", *measured], **CAPTURED)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *measured]).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip() + "+" * bool(changed)


CAPTURED = {"check": True, "capture_output": True, "text": True}


def machine():
    """What ran this, without names."""
    import cython_sparseops as cso

    facts = {"cores": os.cpu_count()}
    try:
        text = Path("/proc/cpuinfo").read_text()
        facts["processor"] = re.search(r"model name\s*: (.*)", text)[1]
    except (OSError, TypeError):
        facts["processor"] = platform.processor()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["instruction set"] = cso.runtime_info().active
    return facts


def versions():
    """Python, NumPy, ours, and the peers that this run has imported."""
    import numpy as np

    import cython_sparseops as cso

    found = {"cython_sparseops": cso.__version__, "python": platform.python_version()}
    found["numpy"] = np.__version__
    for name in PEERS:
        if name in sys.modules:
            distribution = packages_distributions()[name][0]
            found[distribution] = version(distribution)
    return found


def table(rows):
    """The rows as Markdown, so that it can go into a README."""
    lines = [
        "| work | against | threads | ours, ms | theirs, ms | ratio | of fastest turns | goal | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        verdict = ""
        if one.get("goal") is not None and one["ratio"] is not None:
            verdict = "met" if one["ratio"] >= one["goal"] else "**missed**"
        cells = [
            one["name"],
            one["peer"],
            one["threads"],
            shown(one["ours_ms"]),
            shown(one["peer_ms"]),
            shown(one["ratio"]),
            shown(one.get("ratio_best")),
            shown(one.get("goal")),
            " ".join(filter(None, [verdict, one.get("note", "")])),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def shown(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
