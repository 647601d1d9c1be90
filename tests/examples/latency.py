"""Latency of the example server over loopback, beside the same server answering by fastText.

    python tests/examples/latency.py

Both train on WordNet's definitions (85,749 lines, 19,381 classes; 100 numbers a word).
Each server is one process; the clients are threads that keep their connections. The servers are
asked in turns, so that a busy machine slows all of them alike; the table has the median over the
turns. fastText's is left out where its module is missing.
"""

import argparse
import contextlib
import http.client
import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import server
import uvicorn

import cython_sparseops as cso
from cython_sparseops._cli.demo import load_wordnet
from cython_sparseops.cli import main as sparseops

TURNS = 9


class FastText:
    """fastText's model with the methods of a predictor that the server calls."""

    def __init__(self, path: str) -> None:
        import fasttext

        self.model = fasttext.load_model(path)
        self.classes = self.model.get_labels()

    def top_k_rows(self, rows: list[str], k: int) -> list[cso.Prediction]:
        found = (self.model.predict(row, k) for row in rows)
        return [
            cso.Prediction(
                [label.removeprefix("__label__") for label in labels], np.log(p).tolist()
            )
            for labels, p in found
        ]


def train(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Models by name, and the texts to ask."""
    data, lines = load_wordnet(), folder / "train.txt"
    names = [data.classes[y].replace(" ", "_") for y in data.y_train]
    labelled = zip(names, data.train, strict=True)
    lines.write_text("".join(f"__label__{name} {text}\n" for name, text in labelled))
    models = {"embedding": folder / "embedding.sops", "label tree": folder / "tree.sops"}
    for name, head in (("embedding", "embedding"), ("label tree", "linear")):
        options = ["--head", head, "-o", str(models[name]), "--quiet"]
        if sparseops(["train", str(lines), *options]) != 0:
            raise RuntimeError(f"the {name} was not trained")
    if importlib.util.find_spec("fasttext"):
        import fasttext

        sys.path.append(str(Path(__file__).resolve().parents[1]))
        from benchmarks.fasttext_peer import fasttext_model

        models["fastText"] = folder / "fasttext.bin"
        fasttext_model(fasttext, str(lines))[1].save_model(str(models["fastText"]))
    return models, data.test


@contextlib.contextmanager
def serving(model: Path) -> Iterator[int]:
    """The port of a server of one process, which ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(model), str(port)])
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            if process.poll() is not None:
                raise RuntimeError(f"the server of {model.name} ended at once")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def ask(port: int, texts: list[str], k: int) -> list[float]:
    """Seconds of one client's answers: a question, its answer, the next question."""
    seconds = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for text in texts:
            body = json.dumps({"texts": [text], "k": k})
            start = time.perf_counter()
            connection.request("POST", "/predict", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            payload = answer.read()
            seconds.append(time.perf_counter() - start)
            if answer.status != 200:
                raise RuntimeError(f"the server answered {answer.status}: {payload.decode()}")
    return seconds


def measure(port: int, texts: list[str], k: int, clients: int) -> list[float]:
    """Seconds of each answer, the texts dealt to the clients."""
    with ThreadPoolExecutor(clients) as pool:
        each = [pool.submit(ask, port, texts[i::clients], k) for i in range(clients)]
        return [second for one in each for second in one.result()]


def compare(models: dict[str, Path], texts: list[str], k: int) -> None:
    """Print a table of all servers; each turn asks every server the same share of the texts."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(serving(path)) for name, path in models.items()}
        print("| server | clients | p50 ms | p95 ms | p99 ms | answers/s |")
        print("|---|---|---|---|---|---|")
        for clients in (1, 4):
            turns: dict[str, list[list[float]]] = {name: [] for name in models}
            for port in ports.values():
                measure(port, texts[:100], k, clients)  # the first answers fill caches
            for turn in range(TURNS):
                for name, port in ports.items():
                    start = time.perf_counter()
                    seconds = measure(port, texts[turn::TURNS], k, clients)
                    rate = len(seconds) / (time.perf_counter() - start)
                    turns[name].append([*1e3 * np.percentile(seconds, (50, 95, 99)), rate])
            for name, seen in turns.items():
                p50, p95, p99, rate = np.median(seen, axis=0)
                print(f"| {name} | {clients} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {rate:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--answers", type=int, default=3600, help="questions to each server")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--serve", nargs=2, metavar=("MODEL", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        model, port = arguments.serve
        predictor = FastText(model) if model.endswith(".bin") else cso.Predictor.load(model)
        app = server.create_app(predictor)
        uvicorn.run(app, port=int(port), log_level="warning", access_log=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        models, texts = train(Path(folder))
        compare(models, texts[: arguments.answers], arguments.k)


if __name__ == "__main__":
    main()
