"""Run the benchmarks: ``python tests/benchmarks/run.py [--quick] [--only NAME ...]``.

Every ``bench_*.py`` beside this file has ``main(quick) -> list of rows``; see README.md there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import re
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
sys.path[:0] = [str(HERE)]
import timing  # noqa: E402


def main(arguments=None):
    """Run, print the table, write results.json and the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less than five minutes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as: hsoftmax search")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for JSON and plots")
    options = parser.parse_args(arguments)
    found = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    names = options.only or found
    unknown = set(names) - set(found)
    if unknown:
        parser.error(f"NAME must be one of {', '.join(found)}, got {', '.join(sorted(unknown))}")
    options.output.mkdir(parents=True, exist_ok=True)
    timing.REPEATS = 5 if options.quick else timing.REPEATS
    start, results, failed = time.perf_counter(), [], []
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        before = time.perf_counter()
        try:
            rows = importlib.import_module(f"bench_{name}").main(options.quick)
        except Exception:  # what the others measured is worth keeping
            traceback.print_exc()
            failed.append(name)
            continue
        results += [{"bench": name} | one for one in rows]
        print(f"   {time.perf_counter() - before:.0f} s", file=sys.stderr, flush=True)
        write(options, results, start)
    print(table(results))
    try:
        import plots
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)
    else:
        for path in plots.draw(results, options.output):
            print(path)
    print(f"{time.perf_counter() - start:.0f} s in all", file=sys.stderr)
    return f"failed: {', '.join(failed)}" if failed else None


def write(options, results, start):
    """results.json, after every module: an interrupted run keeps what it has."""
    record = {
        "command": " ".join(["python", "tests/benchmarks/run.py", *sys.argv[1:]]),
        "quick": options.quick,
        "seconds": round(time.perf_counter() - start, 1),
        "machine": machine(),
        "rows": results,
    }
    (options.output / "results.json").write_text(json.dumps(record, indent=1) + "\n")


def machine():
    """What ran this, without names."""
    import numpy as np

    import cython_sparseops as cso

    facts = {"python": platform.python_version(), "numpy": np.__version__}
    facts["runtime"] = str(cso.show_runtime())
    try:
        text = Path("/proc/cpuinfo").read_text()
        facts["processor"] = re.search(r"model name\s*: (.*)", text)[1]
    except (OSError, TypeError):
        facts["processor"] = platform.processor()
    for name in ("torch", "fasttext", "gensim", "napkinxc"):
        module = sys.modules.get(name)
        if module is not None:
            facts[name] = str(getattr(module, "__version__", "installed"))
    return facts


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


def alone(function, path):
    """What ``python bench_X.py [--quick]`` does."""
    print(f"== {Path(path).stem}", file=sys.stderr)
    print(table(function("--quick" in sys.argv)))


if __name__ == "__main__":
    sys.exit(main())
