#!/usr/bin/env bash
# scikit-learn 1.9.1: KNeighborsClassifier fits a sparse label matrix and then predicts objects.
#
# Expected: the labels of the nearest row. fit's docstring takes y as "{array-like, sparse matrix}
# of shape ... (n_samples, n_outputs)", and the same labels as a dense array work.
# Seen: fit says nothing. classes_ holds one "class" a label, which is the whole sparse column, and
# every row is predicted to be the same columns, as an array of dtype object. RadiusNeighborsClassifier
# does the same.
# Instead: Y.toarray(), or OneVsRestClassifier, which takes sparse labels.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0 narwhals==2.29.0
python - <<'PY'
import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier

X = np.arange(6.0)[:, None]
Y = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]])
assert "{array-like, sparse matrix}" in KNeighborsClassifier.fit.__doc__.split("y :")[1]
for model in (KNeighborsClassifier(1), RadiusNeighborsClassifier(0.5)):
    assert (model.fit(X, Y).predict(X) == Y).all()
    predicted = model.fit(X, csr_matrix(Y)).predict(X)
    print(type(model).__name__, predicted.dtype, predicted.shape, "classes:", [len(c) for c in model.classes_])
    assert predicted.dtype == object
    assert all(issparse(label) for row in predicted for label in row)
    assert all(len(classes) == 1 for classes in model.classes_)
PY
