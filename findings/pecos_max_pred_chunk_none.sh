#!/usr/bin/env bash
# PECOS (libpecos 1.2.8): predict(..., max_pred_chunk=None) raises TypeError.
#
# Expected: all rows in one batch. The docstring of XLinearModel.predict says "Set to None to
# ignore", and the code below the check handles None.
# Seen: "isinstance() arg 2 must be a type, a tuple of types, or a union": the check is
# isinstance(max_pred_chunk, (int, None)). Any number works.
# Instead: max_pred_chunk=X.shape[0].
. "$(dirname "$0")/prepare.sh"
install numpy==1.26.4 scipy==1.13.1 scikit-learn==1.5.2 joblib==1.4.2 threadpoolctl==3.5.0 libpecos==1.2.8
python - <<'PY'
import numpy as np
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear import XLinearModel
from scipy.sparse import csr_matrix

X = csr_matrix(np.eye(40, dtype=np.float32))
Y = csr_matrix(np.eye(40, dtype=np.float32))
tree = Indexer.gen(LabelEmbeddingFactory.create(Y, X), max_leaf_size=10, nr_splits=4)
model = XLinearModel.train(X, Y, C=tree)
assert "Set to None to ignore" in XLinearModel.predict.__doc__
assert model.predict(X, max_pred_chunk=40).shape == (40, 40)
try:
    model.predict(X, max_pred_chunk=None)
except TypeError as error:
    print("TypeError:", error)
    assert "isinstance() arg 2" in str(error)
else:
    raise SystemExit("None is taken")
PY
