"""The page of results from the JSON of run.py: ``python tests/benchmarks/tables.py [--check]``.

Writes ``docs/benchmarks/results.md``; with ``--check`` it only says whether that page is current.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "benchmarks" / "results"
PAGE = DOCS / "benchmarks" / "results.md"

HEAD = """# Results

<!-- Written by tests/benchmarks/tables.py from the files in docs/benchmarks/results. -->

*Speed-up* is the peer's time divided by ours: 2.3× means that we take 1/2.3 of its time. Below 1×
the peer is faster. {doc}`method` says how it is measured. The files behind these tables are in
`docs/benchmarks/results`.
"""

PICTURE = """

```{image} ../_static/speed.svg
:alt: Milliseconds per training step against number of classes
```"""

SECTIONS = {  # module: title, what its rows are
    "classes": (
        "Time against the number of classes",
        "A training step of 1,024 examples with 128 features: loss, gradient and SGD step. PyTorch "
        "is timed without the step." + PICTURE,
    ),
    "hsoftmax": (
        "Loss and gradient",
        "C classes, N examples, 128 features. *Path gather* is a hierarchical softmax written in "
        "PyTorch.",
    ),
    "update": (
        "Training step",
        "C classes, N examples, 128 features: loss, gradient and optimizer.",
    ),
    "search": (
        "Exact top-k",
        "A model trained on synthetic data answers held-out queries. *Sure queries* have a mean "
        "loss of one nat.",
    ),
    "train": ("Training, end to end", "Five epochs over bags of words, 100 hidden features."),
    "quality": ("Accuracy on WordNet", "19,381 classes; nothing is tuned on the test rows."),
    "quantize": ("Quantized weights", "Against float32 weights in the same run."),
    "arity": ("Kinds of trees", "Against the binary Huffman tree in the same run."),
    "normalize": (
        "Normalize",
        "30 M values in a matrix of 1,000,000 × 100,000, or a table of 1,000,000 × 128 of which "
        "100,000 rows are named.",
    ),
    "dropout": ("Dropout", "10 M float32 values, rate 0.3."),
    "limits": (
        "Against the limits of the machine",
        "The peer is a bound, not a program: the larger of the arithmetic at its peak and of one "
        "gather of the rows.",
    ),
}


def main(arguments):
    """Write the page, or compare it."""
    page = render(load(RESULTS))
    if "--check" not in arguments:
        PAGE.write_text(page, encoding="utf-8")
        return None
    same = PAGE.read_text(encoding="utf-8") == page
    return None if same else f"{PAGE.name} is out of date: run tests/benchmarks/tables.py"


def load(folder):
    """{module: record}, in the order of the page."""
    records = {}
    for name in SECTIONS:
        path = folder / f"{name}.json"
        if path.exists():
            records[name] = json.loads(path.read_text(encoding="utf-8"))
    return records


def render(records):
    """The page as Markdown."""
    parts = [HEAD]
    for name, record in records.items():
        title, what = SECTIONS[name]
        parts += [f"## {title}\n", f"{what}\n", table(record["rows"]) + "\n", source(record) + "\n"]
    return "\n".join(parts)


def table(rows):
    """One line a comparison; the columns that some row has."""
    noted = any(one.get("note") for one in rows)
    head = ["work", "peer", "threads", "ours, ms", "theirs, ms", "speed-up"] + ["note"] * noted
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    last = None
    for one in rows:
        if one["ratio"] is None:
            continue
        work = readable(one["name"]) if one["name"] != last else ""
        last = one["name"]
        cells = [work, one["peer"], one["threads"], ms(one["ours_ms"]), ms(one["peer_ms"])]
        cells += [ratio(one["ratio"])] + [one.get("note", "")] * noted
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def readable(name):
    """C=100000 as C = 100,000."""
    return re.sub(r"\b([CND])=(\d+)", lambda found: f"{found[1]} = {int(found[2]):,}", name)


def source(record):
    """Where a table comes from."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    text = f"{machine['processor'].strip()}, {machine['cores']} cores, {machine['instruction set']}"
    remark = f" {record['remark']}" if record["remark"] else ""
    return (
        f"*{text}; {record['date']}, commit {record['commit']}; {versions}.{remark}*\n\n"
        f"`{record['command']}`"
    )


def ms(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value):
    """2.3×: two digits, all of them from 100 up."""
    return f"{value:,.0f}×" if value >= 10 else f"{value:.2g}×"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
