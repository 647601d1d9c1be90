"""A million classes on one machine: train with labels of Zipf's law, search, and tell the memory.

    python tests/examples/million_classes.py

The estimate is what `estimate_memory` says before anything is allocated; the peak is that of the
whole process, the interpreter and NumPy included, as the system (Linux) counts it.
"""

import argparse
from pathlib import Path

import numpy as np

import cython_sparseops as cso


def peak_memory() -> int:
    """Most bytes that this process ever had in memory."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=1024)
    args = parser.parse_args()

    shares = 1 / np.arange(1, args.classes + 1)
    shares /= shares.sum()
    h = cso.Hierarchy.huffman(shares)
    optimizer = cso.Adagrad(lr=0.1, rowwise=True)
    estimate = cso.estimate_memory(h, args.dim, optimizer=optimizer)

    rng = np.random.default_rng(0)
    W, b = cso.init_weights(h, args.dim, rng=rng)
    up_to = shares.cumsum()
    waves = np.pi * rng.random(args.dim)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        labels = np.minimum(np.searchsorted(up_to, rng.random(args.batch_size)), args.classes - 1)
        return np.cos(labels[:, None] * waves).astype(np.float32), labels  # X tells the label

    losses = []
    for _ in range(args.steps):
        X, labels = batch()
        losses.append(float(cso.hsoftmax_update(X, W, b, labels, h, optimizer).nll.mean()))
    X, labels = batch()
    found = cso.hsoftmax_search(X, W, b, h, k=5).classes
    hits = float((found == labels[:, None]).any(axis=1).mean())

    print(f"{args.classes} classes, dim {args.dim}, {args.steps * args.batch_size} examples")
    print(f"loss      {losses[0]:.2f} -> {losses[-1]:.2f}, in the best 5: {hits:.2f}")
    print(f"estimate  {estimate / 2**20:.0f} MiB")
    print(f"peak      {peak_memory() / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
