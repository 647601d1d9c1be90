#!/usr/bin/env bash
# fasttext-community 0.11.9 (fastText 0.9.2 alike): a model that was trained with a label prefix of its
# own (label="#") answers differently once it is saved and loaded.
#
# Expected: a loaded model gives the answers of the model that was saved.
# Seen: the file does not hold the prefix. Before, an unknown token that begins with it is a label and
# left out of the text; after loading, the prefix is "__label__" again and the token is text, whose
# n-grams of characters and neighbors change the scores.
# Instead: take tokens that begin with the prefix out of texts before asking a loaded model.
. "$(dirname "$0")/prepare.sh"
install numpy==1.26.4 pybind11==2.13.6 fasttext-community==0.11.9
python - <<'PY'
import fasttext

texts = ["a fine film", "a dull film", "fine acting", "dull and long"]
lines = [f"#{'bad' if 'dull' in text else 'good'} {text}" for text in texts * 10]
open("train.txt", "w").write("\n".join(lines) + "\n")
model = fasttext.train_supervised(
    "train.txt", label="#", loss="hs", minn=2, maxn=4, bucket=1000, thread=1, epoch=300, lr=1, verbose=0
)
model.save_model("model.bin")
loaded = fasttext.load_model("model.bin")
for text in ("fine", "fine #dullish"):
    before, after = (one.f.predict(text + "\n", 2, 0.0, "strict") for one in (model, loaded))
    print(repr(text), "trained:", before, "loaded:", after)
same = [one.f.predict("fine\n", 1, 0.0, "strict") for one in (model, loaded)]
other = [one.f.predict("fine #dullish\n", 1, 0.0, "strict")[0][0] for one in (model, loaded)]
assert same[0] == same[1]
assert abs(other[0] - other[1]) > 1e-3
PY
