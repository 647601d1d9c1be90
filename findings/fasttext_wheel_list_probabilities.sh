#!/usr/bin/env bash
# fasttext-wheel 0.9.2 with NumPy 2: predict of a list of texts gives the best probability k times.
#
# Expected: k labels and their k probabilities for each text, as for one text at a time.
# Seen: labels are right; every probability of a row is that of its first label. (One text alone is an
# error with NumPy 2: "Unable to avoid copy".) With NumPy 1.26 probabilities are right.
# Instead: NumPy 1.26, or fasttext-community 0.11.9, or model.f.predict(text + "\n", k, 0.0, "strict").
. "$(dirname "$0")/prepare.sh"
install numpy==2.2.6 pybind11==2.13.6 fasttext-wheel==0.9.2
python - <<'PY'
import fasttext

lines = ["__label__a x y", "__label__b z w", "__label__c q r"] * 20
open("train.txt", "w").write("\n".join(lines) + "\n")
model = fasttext.train_supervised("train.txt", loss="hs", thread=1, epoch=20, verbose=0)
labels, probabilities = model.predict(["x y", "z w"], k=3)
one_by_one = [model.f.predict(text + "\n", 3, 0.0, "strict") for text in ("x y", "z w")]
print("list:", labels, probabilities)
print("one by one:", one_by_one)
assert [list(row) for row in labels] == [[label for _, label in row] for row in one_by_one]
assert all(len(set(row.tolist())) == 1 for row in probabilities)
assert all(len({p for p, _ in row}) == 3 for row in one_by_one)
PY
