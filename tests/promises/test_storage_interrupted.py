"""What a save leaves that fails or is interrupted: the old file whole, and nothing beside it."""

import os
import signal
import stat
import sys
import time

import numpy as np
import pytest

import cython_sparseops as cso

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def save_new(megabytes):
    cso.save_arrays("file", {"x": np.full(megabytes << 17, 2.0)}, {"kind": "new"})


def save_and_stop_at(name):
    """Save, but say "now" and wait where the function `name` of os would be called."""

    def stop(*args, **options):
        print("now", flush=True)
        time.sleep(600)

    setattr(os, name, stop)
    save_new(megabytes=1)


def save_for_ever():
    while True:
        save_new(megabytes=64)


def save_beyond_the_limit():
    """The error of a file that may not become as large."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        save_new(megabytes=8)
    except OSError as error:
        print(type(error).__name__, error.errno)


@pytest.fixture
def old(tmp_path):
    """A file, its folder and its bytes."""
    path = tmp_path / "file"
    cso.save_arrays(path, {"x": np.arange(1000.0)}, {"kind": "old"})
    return path, path.read_bytes()


@posix
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_save_killed_before_its_end_leaves_the_old_file(old, child, call):
    path, data = old
    with child.start(save_and_stop_at, call) as process:
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert path.read_bytes() == data
    assert cso.load_arrays(path)[1] == {"kind": "old"}


@posix
def test_a_save_killed_while_it_writes_leaves_one_file_or_the_other(old, child):
    path, _ = old
    for _ in range(3):
        others = set(os.listdir(path.parent))
        with child.start(save_for_ever) as process:
            while not set(os.listdir(path.parent)) - others and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        arrays, metadata = cso.load_arrays(path)
        assert (metadata["kind"], arrays["x"][-1]) in (("old", 999), ("new", 2))


@posix
def test_a_save_that_cannot_be_written_leaves_the_old_file_and_no_other(old, child):
    path, data = old
    done = child.run(save_beyond_the_limit)
    assert done.stdout.startswith("OSError"), done
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["file"]


def test_an_interrupt_or_a_refusal_at_any_point_of_a_save_leaves_no_other_file(old, monkeypatch):
    path, data = old

    def refuse(*args, **options):
        raise KeyboardInterrupt

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            with pytest.raises(KeyboardInterrupt):
                cso.save_arrays(path, {"x": np.zeros(9)})
    for arrays, metadata in (
        ({"x": np.array(["text"])}, {}),
        ({"x": [[1], [2, 3]]}, {}),
        ({"x": np.zeros(2), 3: np.zeros(2)}, {}),
        ({"x": np.zeros(2)}, {"kind": {1, 2}}),
        ({"x": np.zeros(2)}, [1]),
        (None, {}),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^(x|arrays|metadata) must "):
            cso.save_arrays(path, arrays, metadata)
    assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["file"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    """mkstemp was given a prefix as long as the name, and more: found by the hostile calls."""
    path = tmp_path / ("x" * 255)
    cso.Hierarchy.balanced(3).save(path)
    assert cso.Hierarchy.load(path).n_classes == 3


@posix
def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    cso.save_arrays(tmp_path / "file", {"x": np.zeros(3)})
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("plain", "file")]
    assert modes[0] == modes[1]


@posix
def test_a_device_or_a_folder_is_not_replaced(tmp_path):
    """Found by reading: as root, saving to /dev/null put a file in its place."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, b"", "", "a\0b", 1, None):
        with pytest.raises((TypeError, ValueError), match=r"^path must "):
            cso.save_arrays(path, {"x": np.zeros(3)})
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


# ---- every kind of file carries version, sizes and checksums ------------------------------------


def save_quantized(path):
    weights = cso.quantize(np.random.default_rng(0).standard_normal((5, 9)), "int8")
    cso.save_arrays(path, weights.to_arrays(), {"kind": "QuantizedWeights"})


def save_classifier(path):
    pytest.importorskip("sklearn")
    from cython_sparseops import sklearn

    X, y = np.eye(3, dtype="f4"), ["a", "b", "c"]
    sklearn.HSoftmaxClassifier(hidden_dim=2, epochs=1, random_state=0).fit(X, y).save(path)


@pytest.mark.parametrize("save", [save_quantized, save_classifier])
def test_no_flipped_bit_and_no_lost_byte_goes_unseen(tmp_path, save):
    path, broken = tmp_path / "good", tmp_path / "broken"
    save(path)
    good = path.read_bytes()
    cso.load_arrays(path)
    rng = np.random.default_rng(0)
    for i in rng.permutation(len(good))[:1500]:
        broken.write_bytes(good[:i] + bytes([good[i] ^ 1 << int(rng.integers(8))]) + good[i + 1 :])
        with pytest.raises(ValueError, match=r"^path must be an undamaged .*broken"):
            cso.load_arrays(broken, mmap=bool(i % 2))
    for n in rng.permutation(len(good))[:100]:
        broken.write_bytes(good[:n])
        with pytest.raises(ValueError, match=r"^path must be an undamaged .*broken"):
            cso.load_arrays(broken, mmap=bool(n % 2))


class Struck(BaseException):
    """What interrupts a save at one of its lines."""


def test_an_interrupt_at_any_line_of_a_save_leaves_no_other_file(old):
    """Also while somebody still has the traceback, as a debugger or a notebook does."""
    path, _ = old
    held = []

    def save_until(line):
        left = [line]

        def trace(frame, event, _):
            if "_storage" not in frame.f_code.co_filename and "contextlib" not in str(frame.f_code):
                return None
            left[0] -= event == "line"
            if left[0] < 0:
                sys.settrace(None)
                raise Struck
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            cso.save_arrays(path, {"x": np.zeros(9)})
        finally:
            sys.settrace(before)

    for line in range(200):
        try:
            save_until(line)
            break
        except Struck as error:
            held.append(error)
        assert os.listdir(path.parent) == ["file"], line
    assert len(held) > 30


# ---- what a path may lead to


@posix
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    target, link, second = (tmp_path / name for name in ("store/v3", "current", "again"))
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to("store/v3")
    second.symlink_to("current")
    for path in (second, target):
        cso.save_arrays(path, {"x": np.arange(3)})
        assert link.is_symlink()
        assert second.is_symlink()
        assert cso.load_arrays(target)[0]["x"].tolist() == [0, 1, 2]
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "store") == ["v3"]


@posix
def test_a_link_to_nothing_makes_the_file_that_it_names(tmp_path):
    (tmp_path / "link").symlink_to("missing")
    cso.Hierarchy.balanced(3).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert cso.Hierarchy.load(tmp_path / "missing").n_classes == 3


@posix
def test_devices_streams_and_pipes_are_refused_not_replaced_or_waited_for(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    gone = tmp_path / "gone"
    with gone.open("wb") as file:
        gone.unlink()
        for path in (pipe, link, f"/dev/fd/{file.fileno()}", "/dev/null", tmp_path):
            for call in (lambda p: cso.save_arrays(p, {"x": np.zeros(1)}), cso.load_arrays):
                with pytest.raises(ValueError, match=r"^path must "):
                    call(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@posix
def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as refused:
        cso.save_arrays(tmp_path / "file", {"x": np.zeros(1)})
    assert refused.value.filename == str(tmp_path / "file")


def test_a_file_whose_size_changes_while_it_is_loaded_is_refused(old, monkeypatch):
    path, _ = old
    whole = cso._storage._read_arrays

    def read(*arguments):
        with open(path, "ab") as file:
            file.write(b"more")
        return whole(*arguments)

    monkeypatch.setattr(cso._storage, "_read_arrays", read)
    with pytest.raises(ValueError, match="size changed meanwhile; mmap=False"):
        cso.load_arrays(path)
