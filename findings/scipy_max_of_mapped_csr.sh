#!/usr/bin/env bash
# SciPy 1.17.1 (and 1.18.1) with joblib 1.6.0: max() and sum() of a memory-mapped CSR matrix raise
# ValueError.
#
# Expected: max, sum, argmax and power only read, so a matrix that joblib.load(mmap_mode="r") maps, or that
# joblib hands to a worker, will do. Products and indexing of the same matrix work.
# Seen: if the column indices do not rise within a row (as after TfidfVectorizer.fit_transform), these
# first sort the matrix in place: "WRITEBACKIFCOPY base is read-only". So what works on a small
# matrix fails in workers on a large one, which joblib maps.
# Instead: X.sort_indices(), or X.sum_duplicates(), before it is stored or handed on.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 joblib==1.6.0 cloudpickle==3.1.3
python - <<'PY'
import joblib
import numpy as np
from scipy.sparse import csr_array

X = csr_array((np.array([1.0, 2.0]), np.array([1, 0]), np.array([0, 2])), shape=(1, 2))
assert not X.has_sorted_indices
joblib.dump(X, "X.joblib")


def mapped():
    return joblib.load("X.joblib", mmap_mode="r")


assert mapped()[0, 1] == 1 and (mapped() @ [1, 1])[0] == 3
calls = {"max": lambda M: M.max(), "sum": lambda M: M.sum(), "power": lambda M: M.power(2)}
for name, call in calls.items():
    call(joblib.load("X.joblib"))
    try:
        call(mapped())
    except ValueError as error:
        print(name, "ValueError:", error)
        assert "read-only" in str(error)
    else:
        raise SystemExit(f"{name} works")
PY
