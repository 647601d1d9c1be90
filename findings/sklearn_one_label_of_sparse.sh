#!/usr/bin/env bash
# scikit-learn 1.9.1 with SciPy 1.17.1 (and 1.18.1): a metric of one label's column ends with
# UnboundLocalError.
#
# Expected: Y[:, j] of a sparse label matrix is one binary target, or is refused with words.
# Seen: of a csr_array it is a one-dimensional sparse array, and accuracy_score, f1_score and all that
# look at the type of the target say "cannot access local variable 'first_row_or_val'".
# Instead: Y[:, [j]], which keeps two dimensions, or Y[:, j].toarray().
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0 narwhals==2.29.0
python - <<'PY'
import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics import accuracy_score, f1_score

Y = csr_array(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]))
for metric in (accuracy_score, f1_score):
    assert metric(Y[:, 0].toarray(), Y[:, 0].toarray()) == 1
    try:
        metric(Y[:, 0], Y[:, 0])
    except UnboundLocalError as error:
        print(metric.__name__, type(Y[:, 0]).__name__, Y[:, 0].shape, "UnboundLocalError:", error)
    else:
        raise SystemExit("taken")
PY
