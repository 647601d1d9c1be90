"""Models for other tools: safetensors files, skops, MLflow."""

import json
import struct

import numpy as np
import pytest

import cython_sparseops as cso

ARRAYS = {
    "bytes": np.arange(5, dtype=np.uint8),
    "wide": np.arange(6.0).reshape(2, 3),
    "half": np.ones((3, 1), np.float16),
    "slots": np.array([0, 65_535, 7], np.uint16),
    "none": np.empty((0, 4), np.float32),
    "scalar": np.array(7, np.int64),
    "slot": np.arange(3, dtype=np.uint16),  # SparseWeights has such: a label tree was not saved
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.safetensors"
    cso.save_arrays(path, ARRAYS, {"kind": "some", "nested": [1, {"x": None}]})
    return path


@pytest.mark.parametrize("mmap", [True, False])
def test_safetensors_are_read_back_with_the_same_bytes(path, mmap):
    arrays, metadata = cso.load_arrays(path, mmap=mmap)
    assert metadata == {"kind": "some", "nested": [1, {"x": None}]}
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()
        assert arrays[name].flags.aligned


def test_the_library_of_safetensors_reads_and_writes_the_same(path, tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    found = library.load_file(path)
    assert {name: a.tobytes() for name, a in found.items()} == {
        name: a.tobytes() for name, a in ARRAYS.items()
    }
    other = tmp_path / "b.safetensors"
    library.save_file(ARRAYS, other)
    arrays, metadata = cso.load_arrays(other)
    assert {name: a.tobytes() for name, a in arrays.items()} == {
        name: a.tobytes() for name, a in ARRAYS.items()
    }
    assert metadata == {}


def test_damaged_safetensors_are_refused(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])

    def forged(name="wide", **entry):
        changed = {**header, name: header[name] | entry}
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    for bad in (
        b"",
        b"12345678",
        data[:-1],
        data + b"1",
        data[:-9] + b"x" + data[-8:],
        struct.pack("<Q", 1 << 62) + data[8:],
        forged(shape=[2, 4]),
        forged(shape=[-1, 3]),
        forged(shape="ab"),
        forged(dtype="F128"),
        forged(dtype=[1]),
        forged(data_offsets=[0, 48]),
        forged(data_offsets=[0, 1 << 70]),
        forged(data_offsets=None),
        struct.pack("<Q", 2) + b"[]",
    ):
        path.write_bytes(bad)
        for mmap in (True, False):
            with pytest.raises(ValueError, match="must be an undamaged"):
                cso.load_arrays(path, mmap=mmap)


def test_trees_and_classifiers_are_exported(tmp_path):
    h = cso.Hierarchy.from_table(["cat", "dog", "animal"], ["animal", "animal", None])
    h.save(tmp_path / "h.safetensors")
    assert cso.Hierarchy.load(tmp_path / "h.safetensors").class_names == ("cat", "dog")
    pytest.importorskip("sklearn")
    from cython_sparseops.sklearn import HSoftmaxClassifier

    model = HSoftmaxClassifier(hierarchy=h).fit(np.eye(2), ["cat", "dog"])
    model.save(tmp_path / "m.safetensors")
    model.save(tmp_path / "m.sops")
    one, two = (cso.load_arrays(tmp_path / f"m.{kind}")[0] for kind in ("safetensors", "sops"))
    assert {name: a.tobytes() for name, a in one.items()} == {
        name: a.tobytes() for name, a in two.items()
    }
    again = HSoftmaxClassifier.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict_proba(np.eye(2)), model.predict_proba(np.eye(2)))


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_skops_dumps_and_loads_a_classifier(named, sparse):
    skops = pytest.importorskip("skops.io")
    csr_array = pytest.importorskip("scipy.sparse").csr_array
    from cython_sparseops.sklearn import HSoftmaxClassifier

    X, y = np.eye(3, dtype=np.float32), ["a", "b", "c"]
    X = csr_array(X) if sparse else X
    h = cso.Hierarchy.from_table([*y, "r"], ["r", "r", "r", None]) if named else "huffman"
    model = HSoftmaxClassifier(4, hierarchy=h, random_state=0).fit(X, y)
    data = skops.dumps(model)
    types = skops.get_untrusted_types(data=data)
    assert all(name.startswith("cython_sparseops.") for name in types)
    again = skops.loads(data, trusted=types)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.hierarchy_ == model.hierarchy_
    assert again.history_ == model.history_
    again.partial_fit(X, y)
    with pytest.raises(AttributeError):
        again.hierarchy_.path_ptr = None


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_skops_dumps_and_loads_label_trees(several, sparse):
    skops = pytest.importorskip("skops.io")
    csr_array = pytest.importorskip("scipy.sparse").csr_array
    from cython_sparseops.sklearn import LabelTreeClassifier

    X, y = np.eye(3, dtype=np.float32), ["a", "b", "c"]
    X = csr_array(X) if sparse else X
    y = np.array([[1, 0, 1], [0, 1, 0], [0, 1, 1]]) if several else y
    model = LabelTreeClassifier(n_trees=2, random_state=0).fit(X, y)
    data = skops.dumps(model)
    types = skops.get_untrusted_types(data=data)
    assert all(name.startswith("cython_sparseops.") for name in types)
    again = skops.loads(data, trusted=types)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.top_k(X, 2).labels, model.top_k(X, 2).labels)


def test_the_state_of_sparse_weights_is_checked():
    csr_array = pytest.importorskip("scipy.sparse").csr_array
    X = csr_array(np.eye(3, dtype=np.float32))
    W = cso.linear_train(X, [0, 1, 2], cso.Hierarchy.balanced(3))
    arrays = W.__getstate__()
    again = object.__new__(cso.SparseWeights)
    again.__setstate__(arrays)
    assert {n: a.tobytes() for n, a in again.to_arrays().items()} == {
        n: a.tobytes() for n, a in arrays.items()
    }
    with pytest.raises(ValueError, match="arrays must hold bias"):
        object.__new__(cso.SparseWeights).__setstate__(
            {n: a for n, a in arrays.items() if n != "bias"}
        )


@pytest.mark.filterwarnings("ignore")  # what MLflow says of its own future
@pytest.mark.parametrize("form", ["cloudpickle", "skops"])
@pytest.mark.parametrize("kind", ["HSoftmaxClassifier", "LabelTreeClassifier"])
def test_mlflow_logs_and_loads_a_classifier(kind, form, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs MLflow")
    flavor = pytest.importorskip("mlflow.sklearn", reason="MLflow's flavor needs pandas")
    skops = pytest.importorskip("skops.io")
    from cython_sparseops import sklearn

    X, y = np.eye(3, dtype=np.float32), ["a", "b", "c"]
    model = getattr(sklearn, kind)(random_state=0).fit(X, y)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    try:
        with mlflow.start_run():
            types = skops.get_untrusted_types(data=skops.dumps(model))
            options = {"skops_trusted_types": types} if form == "skops" else {}
            logged = flavor.log_model(
                model, name="model", serialization_format=form, pip_requirements=[], **options
            )
        again = flavor.load_model(logged.model_uri)
        served = mlflow.pyfunc.load_model(logged.model_uri)
    finally:
        mlflow.set_tracking_uri(before)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.top_k(X, 2).log_probs, model.top_k(X, 2).log_probs)
    np.testing.assert_array_equal(served.predict(X), y)
