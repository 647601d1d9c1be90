#!/usr/bin/env bash
# omikuji 0.5.2 (Python): training writes its log to standard output, and nothing switches it off.
#
# Expected: silence, or standard error, as for a library whose caller prints its own results.
# Seen: "... INFO [omikuji::data] Loading data from ..." on standard output, also with
# RUST_LOG=off, and past sys.stdout: contextlib.redirect_stdout does not catch it. So a program
# that prints predictions as CSV or JSON prints the log among them. (Progress bars go to stderr.)
# Instead: train in a process of its own, or point file descriptor 1 elsewhere meanwhile.
. "$(dirname "$0")/prepare.sh"
install omikuji==0.5.2 milksnake==0.1.6 cffi==2.0.0 pycparser==2.23
cat >train.py <<'PY'
import contextlib
import io

import omikuji

with open("data.txt", "w") as file:
    file.write("4 3 2\n0 0:1\n1 1:1 2:1\n0 0:1 2:1\n1 1:1\n")
with contextlib.redirect_stdout(io.StringIO()):
    model = omikuji.Model.train_on_data("data.txt")
print("label", model.predict([(0, 1.0)])[0][0])
PY
RUST_LOG=off python train.py 2>stderr >stdout
head -n 2 stdout
tail -n 1 stdout
[ "$(tail -n 1 stdout)" = "label 0" ]
[ "$(grep -c INFO stdout)" -ge 3 ]
