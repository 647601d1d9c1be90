#!/usr/bin/env bash
# scikit-learn 1.5.2 (and 1.9.1) with PECOS (libpecos 1.2.8): a model trained on
# TfidfVectorizer.fit_transform(texts) refuses to predict those very rows, and takes
# transform(texts), which is equal.
#
# Expected: rows that were good for training are good for prediction.
# Seen: fit_transform returns CSR whose indices do not rise within a row (the vocabulary is sorted
# after the rows were made), transform returns rising ones. train() takes both, predict() says
# "Query matrix does not have sorted indices!". CountVectorizer does the same.
# Instead: X.sort_indices() after fit_transform.
. "$(dirname "$0")/prepare.sh"
install numpy==1.26.4 scipy==1.13.1 scikit-learn==1.5.2 joblib==1.4.2 threadpoolctl==3.5.0 libpecos==1.2.8
python - <<'PY'
import numpy as np
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear import XLinearModel
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

labels = np.repeat(np.arange(40), 5)
texts = [f"word{99 - y} word{y} common{i % 3}" for i, y in enumerate(labels)]
vectorizer = TfidfVectorizer(dtype=np.float32)
fitted, transformed = vectorizer.fit_transform(texts), vectorizer.transform(texts)
assert (fitted != transformed).nnz == 0, "not equal"
print("rising indices:", bool(fitted.has_sorted_indices), bool(transformed.has_sorted_indices))
assert not fitted.has_sorted_indices and transformed.has_sorted_indices

Y = csr_matrix((np.ones(len(labels), np.float32), (np.arange(len(labels)), labels)))
tree = Indexer.gen(LabelEmbeddingFactory.create(Y, fitted), max_leaf_size=10, nr_splits=4)
model = XLinearModel.train(fitted, Y, C=tree)
best = np.asarray(model.predict(transformed).argmax(axis=1)).ravel()
print("right, asked with transform:", np.mean(best == labels))
assert np.mean(best == labels) > 0.9
try:
    model.predict(fitted)
except ValueError as error:
    print("ValueError:", error)
    assert "sorted indices" in str(error)
else:
    raise SystemExit("taken")
PY
