"""The PyTorch head: a training step against AdaptiveLogSoftmaxWithLoss, and against the functions
for arrays."""

from __future__ import annotations

import numpy as np

import cython_sparseops as cso
from benchmarks.timing import batches, peer, race, row, set_threads, thread_counts, zipf_counts

C, D = 100_000, 128
TORCH_LR = {"SGD": 0.01, "Adagrad": 0.01, "SparseAdam": 1e-3}
OUR_LR = {"RowSGD": 0.01, "RowAdagrad": 0.01, "RowAdam": 1e-3}


def main(quick):
    """Steps of the head alone, and what torch adds to the calls below it."""
    torch = peer("torch")
    if torch is None:
        return []
    rows = []
    for threads in thread_counts(quick):
        set_threads(threads)
        h = cso.Hierarchy.huffman(zipf_counts(C))
        rows += steps(torch, h, threads) + overhead(torch, h, threads)
    return rows


def tensors(torch, size):
    rng = np.random.default_rng(0)
    return [
        (torch.from_numpy(x).requires_grad_(), torch.from_numpy(y.astype(np.int64)))
        for x, y in batches(rng, C, size, D)
    ]


def training(head, data, optimizer=None):
    """f(i): forward, backward, and the step."""

    def step(i):
        x, y = data[i % len(data)]
        x.grad = None
        if optimizer is not None:
            optimizer.zero_grad()
        head(x, y).loss.backward()
        if optimizer is not None:
            optimizer.step()

    return step


def steps(torch, h, threads):
    """One training step of a batch of 1,024, each optimizer against the peer's Adam."""
    import cython_sparseops.torch as ours

    HSoftmax, data, calls = ours.HSoftmax, tensors(torch, 1024), {}
    for module, rates in ((ours, OUR_LR), (torch.optim, TORCH_LR)):
        for name, lr in rates.items():
            head = HSoftmax(h, D)
            optimizer = getattr(module, name)(head.parameters(), lr=lr)
            calls[f"sparse gradient, {name}"] = training(head, data, optimizer)
    for optimizer in (cso.SGD(0.01), cso.Adagrad(0.01), cso.Adam(1e-3)):
        name = f"optimizer={type(optimizer).__name__}"
        calls[name] = training(HSoftmax(h, D, optimizer=optimizer), data)
    adaptive = torch.nn.AdaptiveLogSoftmaxWithLoss(D, C, [C // 100, C // 10])
    adam = torch.optim.Adam(adaptive.parameters(), lr=1e-3)
    against = "AdaptiveLogSoftmaxWithLoss + Adam"
    times = race(calls | {against: training(adaptive, data, adam)}, budget=60)
    theirs = times.pop(against)
    return [
        row(
            f"torch step, {name}, {C:,} classes, batch 1,024",
            against,
            ms,
            theirs,
            threads,
            80 if name.startswith("optimizer=") else 60 if name.endswith(tuple(OUR_LR)) else None,
        )
        for name, ms in times.items()
    ]


def overhead(torch, h, threads):
    """Forward and backward against `hsoftmax` and `hsoftmax_gradient` on the same arrays."""
    from cython_sparseops.torch import HSoftmax

    rows = []
    for size in (1, 1024):
        data, head = tensors(torch, size), HSoftmax(h, D)
        W, b = (p.detach().numpy() for p in (head.weight, head.bias))
        arrays = [(x.detach().numpy(), W, b, y.numpy(), h) for x, y in data]

        def functions(i, arrays=arrays):
            cso.hsoftmax(*arrays[i % len(arrays)])
            cso.hsoftmax_gradient(*arrays[i % len(arrays)])

        def module(i, head=head, data=data):
            x, y = data[i % len(data)]
            x.grad = head.weight.grad = head.bias.grad = None
            head(x, y).loss.backward()

        times = race({"module": module, "functions": functions})
        more = (times["module"] - times["functions"]) * 1e3
        rows.append(
            row(
                f"torch forward and backward, batch {size:,}",
                "hsoftmax + hsoftmax_gradient",
                times["module"],
                times["functions"],
                threads,
                1 / 1.1 if size > 1 else None,
                note=f"{more:,.0f} µs more",
            )
        )
    return rows
