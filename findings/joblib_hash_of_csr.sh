#!/usr/bin/env bash
# joblib 1.6.0 with SciPy 1.17.1 (and 1.18.1): looking at a sparse matrix changes its hash.
#
# Expected: joblib.hash, by which Memory finds its cached results, depends on what an object holds.
# Seen: SciPy notes on the matrix whether its indices are sorted and unique, the first time it needs to
# know, and joblib hashes that note. X.sum() is enough, in the cached function itself: the second call
# with the same matrix computes again, the third does not. Equal matrices have different hashes.
# Instead: pass X.data, X.indices, X.indptr and X.shape to what is cached.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 joblib==1.6.0 cloudpickle==3.1.3
python - <<'PY'
import joblib
import numpy as np
from scipy.sparse import csr_array

calls = []


def total(X):
    calls.append(X.nnz)
    return X.sum()


cached = joblib.Memory("cache", verbose=0).cache(total)
X = csr_array(np.eye(3))
computed = []
for call in (1, 2, 3):
    before = joblib.hash(X)
    cached(X)
    computed.append(len(calls))
    print(f"call {call}: hash {before[:8]}, afterwards {joblib.hash(X)[:8]}, computed {len(calls)} times")
assert computed == [1, 2, 2]
assert joblib.hash(X) != joblib.hash(csr_array(np.eye(3)))
PY
