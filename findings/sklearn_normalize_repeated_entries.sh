#!/usr/bin/env bash
# scikit-learn 1.9.1: normalize() of a sparse row with a repeated column does not give norm 1.
#
# Expected: SciPy says that repeated entries of a CSR matrix are summed, and the same row as a dense
# array becomes a unit vector. Matrices built by hand from word ids have such entries.
# Seen: the entries are squared one by one. A row of 3 + 4 in one column is divided by 5, not by 7, and
# becomes 1.4. Normalizer and the l1 norm with mixed signs do the same. Nothing warns.
# Instead: X.sum_duplicates() first.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0 narwhals==2.29.0
python - <<'PY'
import numpy as np
from scipy.sparse import csr_array
from sklearn.preprocessing import Normalizer, normalize

X = csr_array((np.array([3.0, 4.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
assert X.toarray().tolist() == [[0, 7]]
dense, sparse = normalize(X.toarray()), normalize(X.copy()).toarray()
print("dense:", dense, "sparse:", sparse)
assert dense.tolist() == [[0, 1]]
assert np.allclose(sparse, [[0, 1.4]])
assert np.allclose(Normalizer().fit_transform(X.copy()).toarray(), [[0, 1.4]])
X.sum_duplicates()
assert normalize(X).toarray().tolist() == [[0, 1]]
PY
