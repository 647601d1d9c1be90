#!/usr/bin/env bash
# ml_dtypes 0.7.0 with NumPy 2.4.6: the mean of 1,000 ones in bfloat16 is 0.256, in int4 of 20 ones 0.
#
# Expected: 1. NumPy's float16 gives 1 for 5,000 ones, because its mean adds in float32 and its integers
# are added in int64.
# Seen: these types are added one after the other in their own precision. In bfloat16 the sum stops at
# 256, where 1 is half a step; in int4 it wraps around. np.dot of the same arrays is right.
# Instead: array.mean(dtype=np.float32), array.sum(dtype=np.int64).
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 ml_dtypes==0.7.0
python - <<'PY'
import ml_dtypes
import numpy as np

ones = np.ones(1000, ml_dtypes.bfloat16)
print("bfloat16: sum", ones.sum(), "mean", ones.mean(), "dot", np.dot(ones, ones))
assert np.ones(5000, np.float16).mean() == 1
assert ones.sum() == 256 and float(ones.mean()) < 0.26
assert np.dot(ones, ones) == 1000 and ones.mean(dtype=np.float32) == 1
small = np.ones(20, ml_dtypes.int4)
print("int4: sum", small.sum(), "mean", small.mean())
assert np.ones(200, np.int8).sum() == 200
assert small.sum() == 4 and small.mean() == 0 and small.sum(dtype=np.int64) == 20
PY
