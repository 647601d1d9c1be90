#!/usr/bin/env bash
# SciPy 1.17.1 (and 1.18.1): X / 2 of a float32 sparse matrix is float64, X * 0.5 is float32.
#
# Expected: float32 for both, as NumPy gives for a dense array and a Python number.
# Seen: division by a scalar widens: twice the memory, and a library that wants float32 refuses it.
# The in-place X /= 2 keeps float32, and so does dividing the data.
# Instead: X * (1 / 2), or X.data /= 2.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1
python - <<'PY'
import numpy as np
from scipy.sparse import csr_array, csr_matrix

dense = np.eye(3, dtype=np.float32)
assert (dense / 2).dtype == (dense * 0.5).dtype == np.float32
for kind in (csr_array, csr_matrix):
    X = kind(dense)
    print(kind.__name__, "X * 0.5:", (X * 0.5).dtype, "X / 2:", (X / 2).dtype, "X / 2.0:", (X / 2.0).dtype)
    assert (X * 0.5).dtype == np.float32
    assert (X / 2).dtype == (X / 2.0).dtype == np.float64
    X /= 2
    assert X.dtype == np.float32
PY
