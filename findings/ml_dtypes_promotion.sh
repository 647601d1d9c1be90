#!/usr/bin/env bash
# ml_dtypes 0.7.0 with NumPy 2.4.6: bfloat16 keeps its type in sums with Python numbers and loses it in
# clip; with int8 it stays, with int32 it becomes float64.
#
# Expected: one rule. W + 1, W * 0.5 are bfloat16, as NumPy's float16 keeps its type in all of these.
# Seen: np.clip(W, 0, 1) is float32, np.linalg.norm(W) is float64, np.round stays; counts in int32 times W make
# float64, four times the memory, where int8 makes bfloat16.
# Instead: out= of the right dtype, or .astype after each step.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 ml_dtypes==0.7.0
python - <<'PY'
import ml_dtypes
import numpy as np

calls = {
    "W + 1": lambda W: W + 1,
    "W * 0.5": lambda W: W * 0.5,
    "np.round(W)": np.round,
    "np.clip(W, 0, 1)": lambda W: np.clip(W, 0, 1),
    "W * int8": lambda W: W * np.ones(3, np.int8),
    "W * int32": lambda W: W * np.ones(3, np.int32),
}
seen = {}
for name, call in calls.items():
    half, brain = (str(call(np.ones(3, t)).dtype) for t in (np.float16, ml_dtypes.bfloat16))
    print(f"{name:18} float16 -> {half:9} bfloat16 -> {brain}")
    seen[name] = half, brain
assert seen["W + 1"] == seen["W * 0.5"] == seen["np.round(W)"] == ("float16", "bfloat16")
assert seen["np.clip(W, 0, 1)"] == ("float16", "float32")
assert seen["W * int8"] == ("float16", "bfloat16") and seen["W * int32"] == ("float64", "float64")
PY
