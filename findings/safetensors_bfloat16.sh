#!/usr/bin/env bash
# safetensors 0.8.0 with ml_dtypes 0.7.0: load() does not read the bfloat16 array that load_file() reads.
#
# Expected: safetensors.numpy reads what it wrote, from bytes as from a file.
# Seen: save and save_file take ml_dtypes' types. load_file gives bfloat16 back; load of the same
# bytes ends with KeyError: 'BF16'. float8_e4m3fn is written and read by neither: KeyError: 'F8_E4M3',
# and "module 'numpy' has no attribute 'float8_e4m3fn'".
# Instead: save array.view(np.uint16), or np.uint8, with a note in the metadata.
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 ml_dtypes==0.7.0 safetensors==0.8.0
python - <<'PY'
import ml_dtypes
import numpy as np
from safetensors.numpy import load, load_file, save, save_file


def outcome(read, source):
    try:
        return str(read(source)["W"].dtype)
    except (AttributeError, KeyError) as error:
        return f"{type(error).__name__} {error}"


seen = {}
for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
    W = {"W": np.ones(4, dtype)}
    save_file(W, "W.safetensors")
    assert open("W.safetensors", "rb").read() == save(W)
    seen[dtype.__name__] = outcome(load_file, "W.safetensors"), outcome(load, save(W))
    print(dtype.__name__, "load_file:", seen[dtype.__name__][0], "| load:", seen[dtype.__name__][1])
assert seen["float16"] == ("float16", "float16")
assert seen["bfloat16"] == ("bfloat16", "KeyError 'BF16'")
assert seen["float8_e4m3fn"][0].startswith("AttributeError")
assert seen["float8_e4m3fn"][1].startswith("KeyError")
PY
