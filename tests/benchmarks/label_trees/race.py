"""Label trees beside omikuji, PECOS, napkinXC, fastText and the nearest TF-IDF centroid.

    python tests/benchmarks/label_trees/tasks.py --sources SOURCES --output TASKS
    python tests/benchmarks/label_trees/race.py --tasks TASKS --peers PEERS/bin/python --output OUT

Every contestant trains, and answers from what it saved, in processes of its own; they take turns,
`--rounds` times with each seed. OUT, a JSON file, keeps every run; runs that it has already are not
repeated, so that it can be filled by parts (`--again` repeats them). The environment of the peers:

    python -m venv PEERS
    PEERS/bin/pip install numpy==1.26.4 scikit-learn omikuji==0.5.2 libpecos==1.2.8 napkinxc==0.7.2
    PEERS/bin/pip install --no-deps fasttext-numpy2-wheel==0.9.2

P@1 and P@5: of single labels, the share of rows whose class is the first, is among the first five;
of several, precision at 1 and at 5. `--million`: 1,000,000 classes and 5,000,000 rows, ours alone,
after 10,000 and 100,000 classes with as many rows a class.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS)]
from benchmarks.label_trees.contestants import CONTESTANTS  # noqa: E402
from benchmarks.label_trees.forms import Task  # noqa: E402
from benchmarks.label_trees.pages import table  # noqa: E402

PEERS = [name for name in CONTESTANTS if "ours" not in name and "flat" not in name]
OURS = [name for name in CONTESTANTS if name.startswith("ours")]
DETERMINED = ("nearest centroid", "omikuji", "omikuji, 3 trees")  # no seed to give
FLAT = "wordnet_2000"  # the task of classifiers without a tree
SCALE = ((10_000, 50_000), (100_000, 500_000), (1_000_000, 5_000_000))


def entrants(task, wanted):
    """Who can do this task."""
    for name in wanted:
        if "flat" in name and task.task != FLAT:
            continue
        if name.startswith("ours, taxonomy") and task.task != "wordnet":
            continue
        if name == "fastText hs" and task.dense:
            continue
        if name == "napkinXC HSM" and not task.single:
            continue
        yield name


def one_run(name, task, threads, seed, python):
    """Figures of one training and its answers, or the reason that there are none."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(TESTS)}
    run = {"task": task.task, "name": name, "threads": threads, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="sparseops-bench-") as work:
        for stage in ("train", "answer"):
            command = [python, "-m", "benchmarks.label_trees.contestants", name, stage]
            command += [str(task.folder), work]
            command += ["--threads", str(threads), "--seed", str(seed)]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace"
            )
            if done.returncode:
                said = (done.stderr.strip() or "no word").splitlines()[-1]
                return run | {"failed": f"{stage}: {said[:200]}"}
            run |= json.loads((Path(work) / f"{stage}.json").read_text())
        for path in sorted(Path(work).glob("top*.npy")):
            run |= precision(task, np.load(path), path.stem[3:].strip())
    return run


def precision(task, top, mode=""):
    """P@1 and P@5 as the heading says, and P@3 of several labels."""
    name = f", {mode}" if mode else ""
    y = task.labels("test")
    if task.single:
        hit = top == y[:, None]
        return {f"p1{name}": float(hit[:, 0].mean()), f"p5{name}": float(hit.any(1).mean())}
    rows = np.arange(len(top))[:, None]
    hit = (top >= 0) & (np.asarray(y[rows, np.maximum(top, 0)].todense()) > 0)
    return {f"p{k}{name}": float(hit[:, :k].mean()) for k in (1, 3, 5)}


def race(tasks, names, options, results):
    """Fill `results` in turns, and write them after each."""
    for _ in range(options.rounds):
        for task in tasks:
            for seed in options.seeds:
                for threads in options.threads:
                    for name in entrants(task, names):
                        key = {"task": task.task, "name": name, "threads": threads, "seed": seed}
                        runs = [one for one in results["runs"] if "failed" not in one]
                        had = [one for one in runs if key.items() <= one.items()]
                        if len(had) >= options.rounds and not options.again:
                            continue
                        if seed != options.seeds[0] and name in DETERMINED[:1]:
                            continue
                        ours = name in OURS
                        python = sys.executable if ours else options.peers
                        run = one_run(name, task, threads, seed, python)
                        results["runs"].append(run)
                        print(line(run), flush=True)
                        save(options.output, results)


def line(run):
    head = f"{run['task']:14} {run['name']:17} threads {run['threads']} seed {run['seed']}: "
    if "failed" in run:
        return head + run["failed"]
    speeds = " ".join(f"{k[7:]} {v:.0f} us" for k, v in run.items() if k.startswith("cpu us"))
    nll = "" if run.get("nll") is None else f", nll {run['nll']:.2f}"
    return head + (
        f"P {run['p1']:.4f} {run['p5']:.4f}{nll}, {run['train_s']:.1f} s, CPU "
        f"{run['train_cpu_s']:.1f} s, peak {run['peak_mib']:.0f} MiB, file "
        f"{run['file_mib']:.1f} MiB, model {run['model_mib']:.0f} MiB, CPU {speeds}"
    )


def save(path, results):
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="TASK")
    parser.add_argument("--peers", default=sys.executable, help="Python of the peers' environment")
    parser.add_argument("--names", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="repeat what the file has")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def command_line():
    """Race, then print the tables."""
    options = parse()
    results = {"tasks": {}, "runs": []}
    if options.output.exists():
        results = json.loads(options.output.read_text())
    names = options.names
    if options.million:
        from benchmarks.label_trees.tasks import synthetic_task

        folders = []
        for n_labels, n_rows in SCALE:
            folders.append(options.tasks / f"synthetic_{n_labels}")
            if not (folders[-1] / "task.json").exists():
                synthetic_task(folders[-1], n_labels, n_rows, counts=False)
        names = [name for name in names if name == "ours"]
    else:
        folders = sorted(path.parent for path in options.tasks.glob("*/task.json"))
        folders = [path for path in folders if not path.name.startswith("synthetic_")]
    if options.only:
        folders = [path for name in options.only for path in folders if path.name == name]
    tasks = [Task(path) for path in folders]
    for task in tasks:
        results["tasks"][task.task] = json.loads((task.folder / "task.json").read_text())
    race(tasks, names, options, results)
    for threads in options.threads:
        print(f"\n### {threads} thread{'s' if threads > 1 else ''}\n{table(results, threads)}")


if __name__ == "__main__":
    command_line()
