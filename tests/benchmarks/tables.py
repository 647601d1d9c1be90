"""Tables of results from the JSON of run.py: ``python tests/benchmarks/tables.py [--check]``.

Writes ``docs/benchmarks/results.md`` and the table of the README; with ``--check`` it only says
whether they are current.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from benchmarks.label_trees import pages  # noqa: E402

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "benchmarks" / "results"
PAGE = DOCS / "benchmarks" / "results.md"
README = DOCS.parent / "README.md"
START, END = "<!-- by tests/benchmarks/tables.py -->\n", "<!-- end -->"

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
        "is timed without the step. The plot shows fastest turns, the table medians." + PICTURE,
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


FIRST_PAGE = (  # of the README: its words; module, name and peer of the row; its word for the peer
    (
        "loss + sparse gradient, 1,024 examples",
        ("hsoftmax", "nll+gradient C=100000 N=1024", "torch full softmax"),
        "PyTorch full softmax",
    ),
    (
        "",
        ("hsoftmax", "nll+gradient C=100000 N=1024", "torch adaptive softmax"),
        "PyTorch adaptive softmax",
    ),
    (
        "SGD step, 1,024 examples",
        ("update", "update C=100000 N=1024 SGD", "fastText hs loop, reading taken off"),
        "fastText `hs` loop",
    ),
    (
        "exact top 5, 1,024 queries",
        ("search", "exact top-5 C=100000 N=1024", "torch full matmul + topk"),
        "PyTorch matrix product + topk",
    ),
    (
        "WordNet, 5 epochs",
        ("train", "training WordNet, 5 epochs, dim 100, adagrad", "fastText hs, epochs alone"),
        "fastText `hs`",
    ),
    (
        "CSR rows to unit length, 30 M values",
        ("normalize", "CSR rows, in place", "scikit-learn"),
        "scikit-learn",
    ),
    (
        "dropout of 10 M floats, in place",
        ("dropout", "dropout of 10 M floats, in place", "torch where + bernoulli"),
        "PyTorch `where` + `bernoulli`",
    ),
)


def main(arguments):
    """Write the page and the table, or compare them."""
    records = load(RESULTS)
    wanted = {PAGE: render(records), README: renewed(README, first_page(records))}
    wanted |= pages.pages()
    if "--check" not in arguments:
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        return None
    stale = [path.name for path, text in wanted.items() if path.read_text("utf-8") != text]
    return f"out of date: {', '.join(stale)}; run tests/benchmarks/tables.py" if stale else None


def renewed(path, table):
    """The text of a file with what stands between the marks replaced."""
    before, _, rest = path.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    return before + START + table + end + after


def first_page(records):
    """The table of the README, of two threads."""
    lines = ["| work | ours, ms | peer | speed-up |", "|---|---|---|---|"]
    for words, (module, *which), peer in FIRST_PAGE:
        rows = records[module]["rows"]
        one = next(r for r in rows if [r["name"], r["peer"]] == which and r["threads"] == 2)
        ours = ms(one["ours_ms"]) if words else ""
        lines.append(f"| {words} | {ours} | {peer} | {ratio(one['ratio'])} |")
    return "\n".join(lines) + "\n"


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
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value):
    """2.3×; no digits behind the point from 10 up, two below 1."""
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:,.{digits}f}×"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
