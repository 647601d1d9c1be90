#!/usr/bin/env bash
# SciPy 1.17.1 (and 1.18.1) with ml_dtypes 0.7.0: a CSR matrix refuses bfloat16 by one door and takes it
# by the other, and then cannot be used.
#
# Expected: refused with words at once, as csr_array(dense), astype and float16 are: "scipy.sparse does
# not support dtype bfloat16".
# Seen: csr_array((data, indices, indptr)) keeps bfloat16 data. Indexing and transposing work; a product ends
# with "data type 'E' not understood", which names nothing that the user wrote.
# Instead: data.astype(np.float32) before the matrix is made.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 ml_dtypes==0.7.0 scipy==1.17.1
python - <<'PY'
import ml_dtypes
import numpy as np
from scipy.sparse import csr_array

try:
    csr_array(np.eye(3).astype(ml_dtypes.bfloat16))
except ValueError as error:
    assert "does not support dtype bfloat16" in str(error)
else:
    raise SystemExit("the dense array is taken")
A = csr_array((np.ones(3, ml_dtypes.bfloat16), np.arange(3), np.arange(4)), shape=(3, 3))
print("made of its parts:", A.dtype, "transposed:", A.T.dtype)
assert A.dtype == A.T.dtype == ml_dtypes.bfloat16
try:
    A @ np.ones(3, np.float32)
except TypeError as error:
    print("A @ x TypeError:", error)
    assert "not understood" in str(error)
else:
    raise SystemExit("multiplied")
PY
