#!/usr/bin/env bash
# safetensors 0.8.0: reading a table by chunks of rows fails at the last chunk.
#
# Expected: get_slice(name)[a:b] "in the manner of NumPy": a slice that goes past the end is cut there, as for
# NumPy arrays, memory maps and h5py; a negative start counts from the end.
# Seen: [8:12] of ten rows raises "index 11 out of bounds for tensor dimension #0 of size 10", and [-2:]
# raises OverflowError, though the index -1 alone is taken.
# Instead: min(end, rows), with rows from get_slice(name).get_shape()[0].
. "$(dirname "$0")/prepare.sh"
install numpy==2.4.6 safetensors==0.8.0
python - <<'PY'
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

E = np.arange(20, dtype=np.float32).reshape(10, 2)
save_file({"E": E}, "E.safetensors")
with safe_open("E.safetensors", "np") as file:
    rows = file.get_slice("E")
    assert (rows[4:8] == E[4:8]).all() and (rows[8:10] == E[8:]).all() and (rows[-1] == E[-1]).all()
    for name, part in (("[8:12]", slice(8, 12)), ("[-2:]", slice(-2, None))):
        assert E[part].shape == (2, 2)
        try:
            rows[part]
        except (SafetensorError, OverflowError) as error:
            print(name, type(error).__name__, error)
        else:
            raise SystemExit(f"{name} is taken")
PY
