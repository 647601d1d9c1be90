"""Files of trees and models: what was saved comes back, and damage is told, never followed."""

import os
import pickle

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.batches import all_results, digest, make_batch
from helpers.hierarchies import BUILDERS, counts_of

Hierarchy = cso.Hierarchy
both_ways = pytest.mark.parametrize("mmap", [True, False])

# ---- agrees with the reference ------------------------------------------------------------------


@both_ways
def test_a_saved_tree_is_the_same_tree(tmp_path, mmap):
    for name, build in BUILDERS.items():
        for n_classes in (1, 2, 30):
            h = build(n_classes)
            h.save(tmp_path / "a.tree")
            loaded = Hierarchy.load(tmp_path / "a.tree", mmap=mmap)
            assert loaded == h, name
            assert (loaded.n_rows, loaded.depth) == (h.n_rows, h.depth)
            assert pickle.loads(pickle.dumps(loaded)) == h


@both_ways
def test_arrays_of_every_dtype_and_shape_come_back(tmp_path, mmap):
    dtypes = ("u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
    arrays = {dtype: np.arange(12).reshape(3, 4).astype(dtype) for dtype in dtypes}
    arrays |= {
        "empty": np.zeros((0, 5)),
        "strided": np.arange(10.0)[::3],
        "F": np.eye(3, order="F"),
    }
    cso.save_arrays(tmp_path / "a", arrays, {"note": "ü", "numbers": [1, 2.5]})
    loaded, metadata = cso.load_arrays(tmp_path / "a", mmap=mmap)
    assert metadata == {"note": "ü", "numbers": [1, 2.5]}
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


# ---- mathematics --------------------------------------------------------------------------------


@both_ways
def test_a_loaded_tree_computes_the_same_bytes(tmp_path, mmap):
    p = make_batch(BUILDERS["from_parents"](200))
    p.h.save(tmp_path / "a.tree")
    loaded = p._replace(h=Hierarchy.load(tmp_path / "a.tree", mmap=mmap))
    assert digest(all_results(*loaded)) == digest(all_results(*p))


# ---- edges --------------------------------------------------------------------------------------


def test_a_path_may_be_text_or_a_path(tmp_path):
    h = Hierarchy.balanced(5)
    h.save(str(tmp_path / "a.tree"))
    assert Hierarchy.load(str(tmp_path / "a.tree")) == Hierarchy.load(tmp_path / "a.tree") == h


def test_saving_over_a_file_that_is_mapped_leaves_the_map_whole(tmp_path):
    path, first = tmp_path / "a.tree", Hierarchy.balanced(100)
    first.save(path)
    mapped = Hierarchy.load(path, mmap=True)
    Hierarchy.balanced(7).save(path)
    assert mapped == first
    assert Hierarchy.load(path).n_classes == 7
    assert os.listdir(tmp_path) == ["a.tree"]


# ---- rejections ---------------------------------------------------------------------------------


@both_ways
def test_a_truncated_longer_or_foreign_file_is_refused_by_name(tmp_path, mmap):
    path, broken = tmp_path / "good.tree", tmp_path / "broken.tree"
    Hierarchy.huffman(counts_of(12)).save(path)
    good = path.read_bytes()
    cut = [good[:n] for n in (*range(0, len(good), 37), len(good) - 1)]
    for data in [*cut, good + b"more", b"\0" * 4096, b"not a tree"]:
        broken.write_bytes(data)
        with pytest.raises(ValueError, match=r"broken\.tree"):
            Hierarchy.load(broken, mmap=mmap)


@both_ways
def test_a_flipped_bit_is_refused_by_name(tmp_path, mmap):
    path = tmp_path / "flipped.tree"
    Hierarchy.huffman(counts_of(12)).save(path)
    good = path.read_bytes()
    for i, byte in enumerate(good):
        path.write_bytes(good[:i] + bytes([byte ^ 1 << i % 8]) + good[i + 1 :])
        with pytest.raises(ValueError, match=r"flipped\.tree"):
            Hierarchy.load(path, mmap=mmap)


@both_ways
def test_a_whole_file_that_holds_no_tree_is_refused_by_name(tmp_path, mmap):
    """The checksums are right here, so that it is the tree itself that is checked."""
    path = tmp_path / "odd.tree"
    h = Hierarchy.from_paths([0, 1, 3, 5], [0, 0, 1, 0, 1], [0, 1, 0, 1, 1])
    h.save(path)
    arrays, metadata = cso.load_arrays(path)
    for name, array in arrays.items():
        for place in range(array.size):
            for value in (-(2**31), -9, -1, 0, 1, 2, 5, 2**31 - 1):
                changed = array.copy()
                changed[place] = value
                if (changed != array).any():
                    cso.save_arrays(path, {**arrays, name: changed}, metadata)
                    with pytest.raises(ValueError, match=r"odd\.tree"):
                        Hierarchy.load(path, mmap=mmap)
    for name in arrays:
        cso.save_arrays(path, {k: v for k, v in arrays.items() if k != name}, metadata)
        with pytest.raises(ValueError, match=r"odd\.tree"):
            Hierarchy.load(path, mmap=mmap)
    for wrong in (arrays["child"].astype(float), arrays["child"][None], arrays["child"][:0]):
        cso.save_arrays(path, {**arrays, "child": wrong}, metadata)
        with pytest.raises(ValueError, match=r"odd\.tree"):
            Hierarchy.load(path, mmap=mmap)
    cso.save_arrays(path, arrays, {"kind": "something else"})
    with pytest.raises(ValueError, match=r"odd\.tree"):
        Hierarchy.load(path, mmap=mmap)


def test_an_absent_file_is_an_os_error_and_objects_are_a_type_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Hierarchy.load(tmp_path / "absent.tree")
    with pytest.raises(TypeError):
        cso.save_arrays(tmp_path / "a", {"x": np.array([None])})
    with pytest.raises(TypeError):
        cso.save_arrays(tmp_path / "a", {"x": np.zeros(2)}, {"note": object()})
    assert os.listdir(tmp_path) == []


# ---- promises -----------------------------------------------------------------------------------


def test_the_arrays_that_a_tree_was_made_of_may_change_afterwards():
    h = Hierarchy.huffman(counts_of(40))
    arrays = {name: array.copy() for name, array in h.to_arrays().items()}
    made = Hierarchy.from_arrays(arrays)
    for array in arrays.values():
        array[...] = 2**30
    assert made == h


def test_a_mapped_array_is_read_only_and_saving_again_gives_the_same_bytes(tmp_path):
    h = Hierarchy.huffman(counts_of(40))
    h.save(tmp_path / "a.tree")
    loaded = Hierarchy.load(tmp_path / "a.tree", mmap=True)
    with pytest.raises(ValueError, match="read-only"):
        loaded.child[0] = 0
    loaded.save(tmp_path / "b.tree")
    assert (tmp_path / "a.tree").read_bytes() == (tmp_path / "b.tree").read_bytes()
