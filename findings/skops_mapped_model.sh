#!/usr/bin/env bash
# skops 0.16.0 with joblib 1.6.0 and scikit-learn 1.9.1: a memory-mapped model is saved and cannot be
# loaded.
#
# Expected: a model from joblib.load(mmap_mode="r") predicts, so it can be converted to skops.
# Seen: skops.io.dump writes it without a word. The file names numpy.memmap as a type to trust;
# trusted, loading ends with "expected str, bytes or os.PathLike object, not ndarray".
# Instead: joblib.load without mmap_mode for what is to be stored by skops.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0 narwhals==2.29.0 \
  skops==0.16.0 packaging==26.4 prettytable==3.18.0 wcwidth==0.9.4
python - <<'PY'
import joblib
import numpy as np
import skops.io
from sklearn.linear_model import LogisticRegression

X, y = np.eye(6), np.arange(6) % 3
joblib.dump(LogisticRegression().fit(X, y), "model.joblib")
for mode in (None, "r"):
    model = joblib.load("model.joblib", mmap_mode=mode)
    predicted = model.predict(X)
    stored = skops.io.dumps(model)
    types = skops.io.get_untrusted_types(data=stored)
    print("mmap_mode", mode, "types to trust:", types)
    if mode is None:
        assert (skops.io.loads(stored, trusted=types).predict(X) == predicted).all()
        continue
    assert types == ["numpy.memmap"]
    try:
        skops.io.loads(stored, trusted=types)
    except TypeError as error:
        print("TypeError:", error)
        assert "not ndarray" in str(error)
    else:
        raise SystemExit("loaded")
PY
