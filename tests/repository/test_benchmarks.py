"""The benchmarks' own bookkeeping: turns, rows, tables. What they measure is not tested."""

import itertools
import json
import sys

import numpy as np
import pytest

from benchmarks import data, instructions, run, tables, timing


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(timing, "REPEATS", timing.REPEATS)  # which run.main sets
    monkeypatch.setattr(timing, "THREADS", timing.THREADS)


def test_contestants_take_turns_and_see_all_batches():
    seen = []
    calls = {name: lambda i, name=name: seen.append((name, i)) for name in "AB"}
    times = timing.race(calls, repeats=3)
    assert set(times) == {"A", "B"}
    assert all(ms.best <= ms for ms in times.values())
    for name in "AB":
        batches = [i for who, i in seen if who == name]
        assert batches == list(range(len(batches)))
    order = [who for who, _ in seen]
    assert sum(a != b for a, b in itertools.pairwise(order)) == 7  # warm-up, 3 turns each


def test_a_peer_that_is_not_installed_is_skipped_with_its_reason(capsys):
    assert timing.peer("no_such_peer_of_ours") is None
    assert "no_such_peer_of_ours" in capsys.readouterr().err


def test_a_row_holds_the_ratio_of_medians_and_of_the_fastest_turns():
    ours, theirs = timing.Median.of([1, 2, 9]), timing.Median.of([4, 6, 8])
    one = timing.row("work", "peer", ours, theirs, 2, 2.5)
    assert (one["ratio"], one["ratio_best"], one["goal"]) == (3, 4, 2.5)
    assert json.loads(json.dumps(one)) == one


def test_the_table_names_goals_met_and_missed():
    rows = [timing.row("work", "peer", 1.0, 3.0, 1, goal) for goal in (2, 4, None)]
    lines = run.table(rows).splitlines()[2:]
    assert ["missed" in line for line in lines] == [False, True, False]
    assert ["met" in line for line in lines] == [True, False, False]


def test_one_command_runs_a_module_and_writes_its_rows(tmp_path, capsys, monkeypatch):
    module = type(sys)("benchmarks.bench_limits")
    module.main = lambda quick: [timing.row("work", "peer", 1.0, 3.0, 1, work="nll+gradient")]
    monkeypatch.setitem(sys.modules, "benchmarks.bench_limits", module)
    assert run.main(["--quick", "--only", "limits", "--output", str(tmp_path)]) is None
    record = json.loads((tmp_path / "limits.json").read_text())
    assert record["command"].endswith("--only limits --quick")
    assert record["rows"][0]["ratio"] == 3
    assert record["machine"]["processor"]
    assert record["versions"]["numpy"] == np.__version__
    assert "| work | peer |" in capsys.readouterr().out


def test_the_page_of_results_names_its_machine_and_writes_speed_ups_in_one_form():
    rows = [timing.row("work", f"peer {x}", 2.0, 2.0 * x, 1) for x in (0.5, 2.345, 3498.4)]
    record = {
        "command": "python run.py",
        "date": "2026-11-30",
        "commit": "abc",
        "remark": "",
        "machine": {"processor": "Some CPU", "cores": 2, "instruction set": "avx2"},
        "versions": {"numpy": "2.4"},
        "rows": rows,
    }
    page = tables.render({"update": record})
    assert [f"| {x} |" in page for x in ("0.50×", "2.3×", "3,498×")] == [True] * 3
    assert "Some CPU, 2 cores, avx2; 2026-11-30, commit abc; numpy 2.4." in page


def test_a_module_that_fails_does_not_take_the_others_along(tmp_path, monkeypatch, capsys):
    module = type(sys)("benchmarks.bench_limits")
    module.main = lambda quick: 1 / 0
    monkeypatch.setitem(sys.modules, "benchmarks.bench_limits", module)
    assert run.main(["--only", "limits", "--output", str(tmp_path)]) == "failed: limits"
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_synthetic_bags_have_every_row_and_text():
    pytest.importorskip("scipy")
    bags = data.synthetic(20, 50, 10, per_row=4, n_features=100)
    assert bags.X.shape == (50, 100)
    assert bags.y.max() < 20
    words = [len(text.split()) for text in data.texts(bags.X)]
    assert words == np.asarray(bags.X.sum(axis=1)).ravel().astype(int).tolist() == [4] * 50


def test_instructions_are_compared_case_by_case():
    assert instructions.total("fn=(1) counted\n12 34\nsummary: 4200 1\n") == 4200
    before, found = {"a": 1000, "b": 1000}, {"a": 1004, "b": 1006, "new": 5}
    assert instructions.grown(found, before) == ["b"]
    lines = instructions.table({"a": 1_500_000, "new": 5}, {"a": 1_000_000}).splitlines()
    assert lines[2:] == ["| a | 1.50 | 1.00 | 1.500 |", "| new | 0.00 | | |"]
