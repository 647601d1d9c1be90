"""What the machine can do just now, and what share of it loss and gradient reach.

Proxies, named as what they are: the peak of fused multiply-adds is torch's (else NumPy's) float32
matrix product; bandwidth is np.copyto and torch's embedding_bag (else np.take) of random rows of
512 bytes. Their fastest turn is the limit.
"""

from __future__ import annotations

import numpy as np

import cython_sparseops as cso
from benchmarks.timing import batches, peer, race, row, set_threads, thread_counts, zipf_counts

DIM, ROWS = 128, 16_000
TABLES = (16, 128, 512)  # MiB


def main(quick):
    """The limits themselves, then the fraction reached by nll + sparse gradient."""
    out = []
    for threads in thread_counts():
        set_threads(threads)
        flops, gathers = limits(threads, out)
        for n_classes in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
            for size in (128, 1024) if quick else (128, 1024, 16384):
                out.append(fraction(n_classes, size, threads, flops, gathers))
    return out


def limits(threads, out):
    """Operations a second, and bytes a second of gathers by size of the table: the fastest turn."""
    n, rng = 1024, np.random.default_rng(0)
    a, b = (rng.random((n, n), np.float32) for _ in range(2))
    source = np.ones(1 << 25, np.float32)
    target = np.empty_like(source)
    calls = {"copy": lambda i: np.copyto(target, source)}
    torch = peer("torch")
    if torch is None:
        calls["product"] = lambda i: a @ b
    else:
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        calls["product"] = lambda i: torch.mm(x, y)
    calls |= {size: gather(torch, size, rng) for size in TABLES}
    times = race(calls)
    flops = 2 * n**3 / times["product"].best * 1e3
    out.append(remark("float32 matrix product 1024^3", times["product"], threads, flops, "FLOP/s"))
    copied = 2 * source.nbytes / times["copy"].best * 1e3
    name = "np.copyto of 128 MiB, read + written"
    out.append(remark(name, times["copy"], 1, copied, "B/s"))
    gathers = {}
    for size in TABLES:
        gathers[size] = ROWS * DIM * 4 / times[size].best * 1e3
        name = f"gather of random 512-byte rows, table of {size} MiB"
        out.append(remark(name, times[size], threads, gathers[size], "B/s"))
    return flops, gathers


def gather(torch, size, rng):
    """Sums of 16 random rows each: reads ROWS rows, writes little. Without torch: np.take."""
    table = np.ones((size << 11, DIM), np.float32)
    indices = rng.integers(0, len(table), (8, ROWS // 16, 16))
    if torch is None:
        out = np.empty((ROWS // 16, 16, DIM), np.float32)
        return lambda i: np.take(table, indices[i % 8], axis=0, out=out, mode="clip")
    weight, rows = torch.from_numpy(table), torch.from_numpy(indices)

    def call(i):
        with torch.inference_mode():
            return torch.nn.functional.embedding_bag(rows[i % 8], weight, mode="sum")

    return call


def remark(name, ms, threads, rate, unit):
    return row(name, "", ms, None, threads, note=f"{rate / 1e9:,.1f} G{unit}")


def fraction(n_classes, size, threads, flops, gathers):
    """The larger of arithmetic over its peak and of bytes over the gather's rate, as a share."""
    h = cso.Hierarchy.huffman(zipf_counts(n_classes))
    W, b = cso.init_weights(h, DIM, rng=0)
    data = batches(np.random.default_rng(0), n_classes, size, DIM, 8)
    lengths = np.diff(h.path_ptr)
    pairs = np.mean([lengths[y].sum() for _, y in data])
    touched = np.mean([len(cso.hsoftmax_gradient(x, W, b, y, h).rows) for x, y in data])
    arithmetic = 6 * DIM * pairs / flops
    table = 16 if W.nbytes < 2**25 else 128 if W.nbytes < 2**28 else 512
    moved = 4 * DIM * (2 * touched + 2 * size)  # rows of W and dW, X and dX, each once
    memory = moved / gathers[table]
    ms = race({"ours": lambda i: cso.hsoftmax_gradient(*pick(data, i, W, b), h)})["ours"]
    bound = max(arithmetic, memory) * 1e3
    kind = "arithmetic" if arithmetic > memory else "memory"
    name = f"nll+gradient C={n_classes} N={size}"
    return row(name, f"limit: {kind}", ms, bound, threads, 0.5, work="fraction of the limit")


def pick(data, i, W, b):
    x, y = data[i % len(data)]
    return x, W, b, y
