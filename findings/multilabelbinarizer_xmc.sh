#!/usr/bin/env bash
# scikit-learn 1.5.2's MultiLabelBinarizer(sparse_output=True) with PECOS (libpecos 1.2.8) and
# napkinXC 0.7.2: neither takes the indicator matrix that it makes.
#
# Expected: the usual way from lists of labels to a sparse matrix leads into both.
# Seen: it makes CSR of int64. PECOS ends with an AssertionError without a word, napkinXC with
# "Unsupported data types of the csr_matrix.". Both work after .astype(np.float32). scipy's
# csr_array, which SciPy recommends for new code, is refused by both, float32 too.
# Instead: scipy.sparse.csr_matrix(Y, dtype=np.float32).
. "$(dirname "$0")/prepare.sh"
install numpy==1.26.4 scipy==1.13.1 scikit-learn==1.5.2 joblib==1.4.2 threadpoolctl==3.5.0 \
  libpecos==1.2.8 napkinxc==0.7.2
python - <<'PY'
import numpy as np
from napkinxc.models import PLT
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear import XLinearModel
from scipy.sparse import csr_array, csr_matrix
from sklearn.preprocessing import MultiLabelBinarizer

X = csr_matrix(np.eye(40, dtype=np.float32))
made = MultiLabelBinarizer(sparse_output=True).fit_transform([[i, (i + 1) % 40] for i in range(40)])
print("made:", type(made).__name__, made.dtype)


def pecos(Y):
    tree = Indexer.gen(LabelEmbeddingFactory.create(Y, X), max_leaf_size=10, nr_splits=4)
    XLinearModel.train(X, Y, C=tree)


def napkinxc(Y):
    PLT("model").fit(X, Y)


for train in (pecos, napkinxc):
    train(csr_matrix(made, dtype=np.float32))
    for Y in (made, csr_array(made, dtype=np.float32)):
        try:
            train(Y)
        except (AssertionError, NotImplementedError, ValueError) as error:
            print(train.__name__, type(Y).__name__, type(error).__name__, error)
        else:
            raise SystemExit(f"{train.__name__} takes {type(Y).__name__} of {Y.dtype}")
PY
