#!/usr/bin/env bash
# scikit-learn 1.9.1: normalize() leaves small rows of a dense array as they are, and not of a sparse one.
#
# Expected: every row that is not zero becomes a unit vector, dense and sparse alike.
# Seen: in float32 a dense row of norm 1e-6 comes back with norm 1e-6, without a warning: a norm below
# ten times the dtype's epsilon counts as zero (2e-15 in float64). The same row as CSR gets norm 1.
# Instead: multiply by 1e6 first, or use the sparse form, which looks for zero alone.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0 narwhals==2.29.0
python - <<'PY'
import numpy as np
from scipy.sparse import csr_array
from sklearn.preprocessing import normalize

for norm in ("l1", "l2", "max"):
    X = np.array([[1e-5, 0], [1e-6, 0], [0, 1e-7]], np.float32)
    dense = np.abs(normalize(X, norm=norm)).sum(axis=1)
    sparse = np.abs(normalize(csr_array(X), norm=norm).toarray()).sum(axis=1)
    print(norm, "dense:", dense, "sparse:", sparse)
    assert np.allclose(sparse, 1)
    assert np.allclose(dense, [1, 1e-6, 1e-7])
PY
