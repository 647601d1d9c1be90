"""The readers of cython_sparseops.data: what they make of files, and what they refuse."""

import gzip
import sys

import numpy as np
import pytest

from cython_sparseops import Hierarchy
from cython_sparseops.data import read_annif, read_skos, read_taxonomy, read_xmc

SKOS = "http://www.w3.org/2004/02/skos/core#"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def dense(matrix):
    """The matrix as it is read by whoever has the parts alone."""
    full = np.zeros(matrix.shape, np.float32)
    for row in range(matrix.shape[0]):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        full[row, matrix.indices[part]] += matrix.data[part]
    return full.tolist()


# ---- XMC


def test_an_xmc_file_is_two_matrices(tmp_path):
    path = write(tmp_path / "train.txt", "4 5 6\n0,3 4:1.5 0:2\n 1:1\n5\n2,2,0 3:1 3:2\n")
    X, Y = read_xmc(path)
    assert dense(X) == [[2, 0, 0, 0, 1.5], [0, 1, 0, 0, 0], [0] * 5, [0, 0, 0, 3, 0]]
    assert dense(Y) == [[1, 0, 0, 1, 0, 0], [0] * 6, [0, 0, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0]]
    assert (X.dtype if hasattr(X, "dtype") else X.data.dtype) == np.float32
    for matrix in (X, Y):
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


def test_a_file_without_a_header_is_as_wide_as_its_numbers(tmp_path):
    path = tmp_path / "train.txt.gz"
    path.write_bytes(gzip.compress(b"7 2:1\n3,0 0:1\n"))
    X, Y = read_xmc(str(path))
    assert (X.shape, Y.shape) == ((2, 3), (2, 8))


def test_blank_rows_count_and_classifiers_take_what_comes(tmp_path):
    pytest.importorskip("sklearn")
    from cython_sparseops.sklearn import LabelTreeClassifier

    rows = [f"{i % 3},{3 + i % 2} {i % 4}:1 {4 + i % 3}:2" for i in range(60)]
    path = write(tmp_path / "train.txt", "\n".join(["61 8 5", *rows, "", ""]))
    X, Y = read_xmc(path)
    assert (X.shape, Y.shape, Y.sum()) == ((61, 8), (61, 5), 120)
    LabelTreeClassifier(hierarchy="balanced", random_state=0).fit(X, Y).predict(X)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 2\n0 5:1\n", r"features in \[0, 2\), got 5"),
        ("1 2 2\n3 1:1\n", r"labels in \[0, 2\), got 3"),
        ("1 2 2\n-1 1:1\n", r"labels in \[0, 2\), got -1"),
        ("3 2 2\n0 1:1\n", "the 3 rows that its header"),
        ("1 2 9999999999\n0 1:1\n", r"fewer than 2\*\*31 columns and labels"),
        ("1 2 2\n0 1:nan\n", "finite numbers, got nan in line 2"),
        ("1 2 2\nnot a row\n", "svmlight text, got 'not a row' in line 2"),
        ("9" * 5000 + " 2 2\n", "svmlight text"),
        ("1:1\n", "a label in every line"),
        ("0 2 2\n", "at least one example"),
        ("", "at least one example"),
    ],
)
def test_other_xmc_files_are_refused(text, said, tmp_path):
    path = write(tmp_path / "train.txt", text)
    with pytest.raises(ValueError, match=said) as error:
        read_xmc(path)
    assert str(error.value).startswith(str(path))


# ---- Annif


CORPUS = "A cat purrs\t<http://e.org/cat> <http://e.org/pet>\r\n\nno subject\t\na\tb\t<e:x>\n"


def test_an_annif_corpus_is_texts_and_subjects(tmp_path):
    corpus = read_annif(write(tmp_path / "corpus.tsv", CORPUS))
    assert corpus.texts == ["A cat purrs", "no subject", "a\tb"]
    assert corpus.subjects.tolist() == ["e:x", "http://e.org/cat", "http://e.org/pet"]
    assert dense(corpus.Y) == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]


def test_subjects_that_were_not_trained_are_left_out(tmp_path):
    path = write(tmp_path / "corpus.tsv", CORPUS)
    corpus = read_annif(path, subjects=["http://e.org/pet", "http://e.org/dog"])
    assert corpus.subjects.tolist() == ["http://e.org/dog", "http://e.org/pet"]
    assert dense(corpus.Y) == [[0, 1], [0, 0], [0, 0]]
    assert read_annif(path, subjects=[]).Y.shape == (3, 0)
    assert read_annif(write(tmp_path / "none.tsv", "a\t\n")).Y.shape == (1, 0)


def test_an_annif_corpus_is_a_folder_too(tmp_path):
    """A .tsv is taken before a .key; a text may have neither, and other files are no texts."""
    write(tmp_path / "b.txt", "The dog\nbarks\n")
    write(tmp_path / "b.key", "dogs\r\n\nnoise\n")
    write(tmp_path / "a.txt", "A cat")
    write(tmp_path / "a.tsv", "<e:cat>\tcats\n<e:pet>\tpets\textra\n")
    write(tmp_path / "a.key", "cats\n")
    write(tmp_path / "c.txt", "nothing")
    write(tmp_path / "README.md", "no text")
    corpus = read_annif(tmp_path)
    assert corpus.texts == ["A cat", "The dog\nbarks", "nothing"]
    assert corpus.subjects.tolist() == ["dogs", "e:cat", "e:pet", "noise"]
    assert dense(corpus.Y) == [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty must hold at least one text"):
        read_annif(tmp_path / "empty")


def test_subjects_may_lack_their_brackets(tmp_path):
    text = "a\thttp://e.org/cat <e:x>\nb\thttps://e.org/dog\n"
    corpus = read_annif(write(tmp_path / "corpus.tsv", text))
    assert corpus.subjects.tolist() == ["e:x", "http://e.org/cat", "https://e.org/dog"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no tab\n", "got 'no tab' in line 1"),
        ("a\t<e:x>\nb\te:x\n", "in line 2"),
        ("a\t<e:x> and\n", "in line 1"),
        ("a\t<e:x\n", "in line 1"),
        ("\n", "at least one text"),
    ],
)
def test_other_corpora_are_refused(text, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_annif(write(tmp_path / "corpus.tsv", text))


# ---- tables


ANIMALS = [("cat", "animal"), ("dog", "animal"), ("animal", ""), ("oak", "plant"), ("plant", "")]
TREE = Hierarchy.from_table(*zip(*ANIMALS, strict=True))


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("head", [None, ("child", "parent"), ("Narrower", "BROADER")])
def test_a_table_of_two_columns_is_a_tree(between, head, tmp_path):
    rows = [*([head] if head else []), *ANIMALS]
    path = write(tmp_path / "tree.csv", "\n".join(between.join(row) for row in rows) + "\n\n")
    h = read_taxonomy(path)
    assert h == TREE
    assert (h.class_names, h.node_names) == (TREE.class_names, TREE.node_names)


def test_columns_are_chosen_by_name_and_cells_may_be_quoted(tmp_path):
    text = 'id,up,note\n"cat, tame",animal,"a ""pet"""\ndog,animal\nanimal\n'
    h = read_taxonomy(write(tmp_path / "tree.csv", text), child="id", parent="up")
    assert h.class_names == ("cat, tame", "dog")
    assert h.node_names == ("animal",)


def test_wide_nodes_are_split(tmp_path):
    text = "\n".join(["child,parent", *(f"c{i},root" for i in range(9))])
    path = write(tmp_path / "tree.csv", text)
    assert read_taxonomy(path).n_nodes == 1
    assert read_taxonomy(path, max_children=3).n_nodes == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one row"),
        ("a,b,c\n", "have columns 'child' and 'parent' in its first line"),
        ("child,parent\n,a\n", "a child in every row, got none in line 2"),
        ("child,parent\na,b\na,c\n", "must hold a tree .parent must be one a child"),
        ("child,parent\na,b\nb,a\n", "must hold a tree"),
        ('child,parent\n"a,b\n', "must be a table, got unexpected end of data"),
    ],
)
def test_other_tables_are_refused(text, said, tmp_path):
    path = write(tmp_path / "tree.csv", text)
    with pytest.raises(ValueError, match=said) as error:
        read_taxonomy(path)
    assert str(error.value).startswith(str(path))


def test_both_columns_are_named_or_none(tmp_path):
    path = write(tmp_path / "tree.csv", "a,b\n")
    with pytest.raises(ValueError, match="child and parent must both be given"):
        read_taxonomy(path, child="a")
    with pytest.raises(ValueError, match="have columns 'x' and 'b'"):
        read_taxonomy(path, child="x", parent="b")


# ---- SKOS


NT = f"""# animals
<e:cat> <{SKOS}broader> <e:animal> .
<e:animal> <{SKOS}narrower> <e:dog>.
<e:cat> <{SKOS}prefLabel> "a \\"cat\\" > <e:x>"@en . # a note
<e:scheme> <{SKOS}hasTopConcept> <e:animal> .
<e:oak> <{SKOS}broader> _:plant .
_:plant <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <{SKOS}Concept> .
<e:m\\u00FCll> <{SKOS}topConceptOf> <e:scheme> .
"""


def test_ntriples_need_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdflib", None)
    h = read_skos(write(tmp_path / "animals.nt", NT))
    assert h.class_names == ("e:cat", "e:dog", "e:müll", "e:oak")
    assert sorted(h.node_names) == ["", "e:animal"]  # one above oak alone is no choice
    with pytest.raises(ImportError, match=r"read_skos needs rdflib .* pip install rdflib"):
        read_skos(tmp_path / "animals.ttl")


def test_rdflib_reads_the_same_tree(tmp_path):
    rdflib = pytest.importorskip("rdflib")
    text = NT.replace("_:plant", "<e:plant>")
    wanted = read_skos(write(tmp_path / "animals.nt", text))
    graph = rdflib.Graph().parse(data=text, format="nt")
    for format, suffix in (("turtle", "ttl"), ("xml", "rdf")):
        path = tmp_path / f"animals.{suffix}"
        graph.serialize(path, format=format)
        for found in (read_skos(path), read_skos(str(path), format=format)):
            assert found == wanted
            assert found.class_names == wanted.class_names
    with pytest.raises(ValueError, match="must be RDF that rdflib reads"):
        read_skos(write(tmp_path / "broken.ttl", "<e:cat> broader"))
    with pytest.raises(FileNotFoundError):
        read_skos(tmp_path / "none.ttl")


def test_a_concept_below_two_others_is_refused_or_hung_below_the_first(tmp_path):
    text = NT + f"<e:cat> <{SKOS}broader> <e:Pet> .\n"
    path = write(tmp_path / "animals.nt", text)
    with pytest.raises(ValueError, match=r"got e:Pet and e:animal for e:cat .*several='first'"):
        read_skos(path)
    h = read_skos(path, several="first")
    assert "e:cat" in h.class_names
    with pytest.raises(ValueError, match="several must be 'refuse' or 'first'"):
        read_skos(path, several="last")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<e:cat> a .", "must be N-Triples, got '<e:cat> a .' in line 1"),
        ("<e:cat> <e:is> <e:pet> .", "must hold SKOS concepts"),
        (f"<e:a> <{SKOS}broader> <e:b> .\n<e:b> <{SKOS}broader> <e:a> .", "must hold a tree"),
    ],
)
def test_other_files_are_refused(text, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_skos(write(tmp_path / "animals.nt", text))
