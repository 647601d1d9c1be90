#!/usr/bin/env bash
# napkinXC 0.7.2: labels of a row as a tuple of ints are refused, as a list they are taken.
#
# Expected: the docstring of fit says "matrix or lists or tuples of ints (multi-label data)".
# Seen: [(0,), (1,)] raises "Unsupported row data type, can be list or tuple of ints or typles of
# int and floats.", which names what it was given; [[0], [1]] works.
# Instead: [list(row) for row in Y].
. "$(dirname "$0")/prepare.sh"
install numpy==1.26.4 scipy==1.13.1 napkinxc==0.7.2
python - <<'PY'
import numpy as np
from napkinxc.models import PLT
from scipy.sparse import csr_matrix

X = csr_matrix(np.eye(8, dtype=np.float32))
rows = [(i, (i + 1) % 8) for i in range(8)]
assert "lists or tuples of ints (multi-label data)" in PLT.fit.__doc__
lists = PLT("lists")
lists.fit(X, [list(row) for row in rows])
print("lists:", sorted(lists.predict(X[:1], top_k=2)[0]))
assert sorted(lists.predict(X[:1], top_k=2)[0]) == [0, 1]
try:
    PLT("tuples").fit(X, rows)
except ValueError as error:
    print("ValueError:", error)
    assert "tuple of ints" in str(error)
else:
    raise SystemExit("tuples are taken")
PY
