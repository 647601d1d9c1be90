"""What several test files need: the recorded Caffe2 cases, and code run in a process of its own."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from helpers.child import Child

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"

settings.register_profile("quick", deadline=None, max_examples=60)
settings.register_profile("thorough", deadline=None, max_examples=1500)
settings.register_profile("emulated", deadline=None, max_examples=8)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_generate_tests(metafunc):
    """`<kind>_case` as an argument: once for every recorded `<kind>_*.npz` not in UNDEFINED."""
    for kind in ("hsoftmax", "search", "huffman"):
        if f"{kind}_case" in metafunc.fixturenames:
            names = {path.stem for path in GOLDEN.glob(f"{kind}_*.npz")}
            names = sorted(names - getattr(metafunc.module, "UNDEFINED", set()))
            absent = pytest.param(
                None, marks=pytest.mark.skip(reason=f"no Caffe2 cases in {GOLDEN}")
            )
            metafunc.parametrize(f"{kind}_case", names or [absent], indirect=True)


def pytest_runtest_setup(item):
    if item.get_closest_marker("forks") and not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")


def load_golden(name):
    path = GOLDEN / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no Caffe2 case {path}")
    with np.load(path) as arrays:
        return {"name": name} | {key: arrays[key] for key in arrays.files}


@pytest.fixture
def golden():
    """golden(name) gives the arrays of one recorded case."""
    return load_golden


@pytest.fixture
def hsoftmax_case(request):
    return load_golden(request.param)


@pytest.fixture
def search_case(request):
    return load_golden(request.param)


@pytest.fixture
def huffman_case(request):
    return load_golden(request.param)


@pytest.fixture(scope="session", autouse=True)
def interrupts():
    """What a shell starts in the background ignores Ctrl-C, and so do its children: ours do not."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def child(tmp_path):
    """Interpreters of their own, in tmp_path."""
    child = Child(tmp_path)
    yield child
    child.kill()


@pytest.fixture(scope="session")
def available_isas():
    """The instruction sets that can run here."""
    from cython_sparseops import runtime_info

    return runtime_info().available


@pytest.fixture(scope="session")
def fma_isas(available_isas):
    """Those with fused multiply-add."""
    return [isa for isa in ("avx2", "avx512", "neon") if isa in available_isas]


@pytest.fixture(scope="session")
def baseline(available_isas):
    """["baseline"], or [] where that cannot run."""
    return [isa for isa in available_isas if isa == "baseline"]
