#!/usr/bin/env bash
# ml_dtypes 0.7.0 with NumPy 2.4.6 and skops 0.16.0: a bfloat16 array comes back from a file as raw
# bytes.
#
# Expected: np.save and np.load return the dtype that went in, or refuse it. Pickle and joblib do.
# Seen: np.save writes '<V2' into the header, without a warning, and np.load gives an array of dtype V2, two bytes
# without a meaning: arithmetic fails far from the file. np.savez and skops (which stores arrays so) too.
# Instead: save array.view(np.uint16); on loading, array.view(ml_dtypes.bfloat16).
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 ml_dtypes==0.7.0 scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0 \
  narwhals==2.29.0 skops==0.16.0 packaging==26.4 prettytable==3.18.0 wcwidth==0.9.4
python - <<'PY'
import joblib
import ml_dtypes
import numpy as np
import skops.io

W = np.ones(3, ml_dtypes.bfloat16)
np.save("W.npy", W)
np.savez("W.npz", W=W)
joblib.dump(W, "W.joblib")
back = {
    "np.load of .npy": np.load("W.npy"),
    "np.load of .npz": np.load("W.npz")["W"],
    "skops": skops.io.loads(skops.io.dumps(W)),
    "joblib": joblib.load("W.joblib"),
}
for name, array in back.items():
    print(name, array.dtype)
assert back.pop("joblib").dtype == ml_dtypes.bfloat16
for array in back.values():
    assert array.dtype == "V2" and (array.view(ml_dtypes.bfloat16) == W).all()
PY
