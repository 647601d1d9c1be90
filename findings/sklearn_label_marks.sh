#!/usr/bin/env bash
# scikit-learn 1.9.1: with labels marked by another number than 1, F1 is perfect and accuracy is not.
#
# Expected: one reading of "this label is set". A label matrix with weights or counts as its marks (all
# of them 3 here) is called a multilabel-indicator, as one of ones is.
# Seen: f1_score, precision_score and jaccard_score ask whether an entry is nonzero: 1.0.
# accuracy_score and hamming_loss compare the numbers, so a row counts as right only if it has no
# label at all. Nothing warns, sparse and dense alike.
# Instead: (Y != 0).astype(int) before any metric.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0 narwhals==2.29.0
python - <<'PY'
import numpy as np
from scipy.sparse import csr_array
from sklearn.metrics import accuracy_score, f1_score, hamming_loss, jaccard_score
from sklearn.utils.multiclass import type_of_target

right = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
for kind in (np.asarray, csr_array):
    true, weighted = kind(right), kind(3 * right)
    assert type_of_target(weighted) == type_of_target(true) == "multilabel-indicator"
    f1 = f1_score(true, weighted, average="micro")
    jaccard = jaccard_score(true, weighted, average="micro")
    accuracy, hamming = accuracy_score(true, weighted), hamming_loss(true, weighted)
    print(f"F1 {f1}, Jaccard {jaccard}, accuracy {accuracy}, Hamming loss {hamming:.2f}")
    assert f1 == jaccard == 1
    assert accuracy == 0.25
    assert hamming == 4 / 12
PY
