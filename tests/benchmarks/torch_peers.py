"""The heads that a torch user would take, each at its best settings.

Every function returns f(i): loss and gradients of batch i.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

MEMORY = 6 << 30  # bytes of logits and their gradients that a peer may take


def tensors(batches):
    return [(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))) for x, y in batches]


def full_softmax(n_classes, dim, batches):
    """nn.Linear and cross-entropy; None if the logits of a batch would not fit."""
    size = len(batches[0][1])
    if 3 * 4 * size * n_classes > MEMORY:
        return None
    layer, data = nn.Linear(dim, n_classes), tensors(batches)

    def step(i):
        x, y = data[i % len(data)]
        x = x.detach().requires_grad_()
        layer.zero_grad(set_to_none=True)
        functional.cross_entropy(layer(x), y, reduction="sum").backward()

    return step


def adaptive_cutoffs(n_classes, quick, size):
    """A small sweep at batch 1024, of the best of it elsewhere; classes are sorted by frequency, as
    this peer wants them."""
    shares = [(0.02, 0.2), (0.01, 0.1)]
    if size == 1024:
        shares += [(0.005, 0.05, 0.25)]
    if size == 1024 and not quick:
        shares += [(0.04, 0.2), (0.01, 0.05, 0.2), (0.1,)]
    return [[max(1, int(n_classes * share)) for share in one] for one in shares]


def adaptive_softmax(n_classes, dim, batches, cutoffs):
    """AdaptiveLogSoftmaxWithLoss with its default div_value of 4."""
    layer, data = nn.AdaptiveLogSoftmaxWithLoss(dim, n_classes, cutoffs), tensors(batches)

    def step(i):
        x, y = data[i % len(data)]
        x = x.detach().requires_grad_()
        layer.zero_grad(set_to_none=True)
        layer(x, y).loss.backward()

    return step


class PathTables:
    """Paths of the classes, padded to the longest: rows, codes (0 or 1) and a mask."""

    def __init__(self, h):
        lengths = np.diff(h.path_ptr)
        width = int(lengths.max())
        at = np.arange(width)
        inside = at < lengths[:, None]
        place = np.minimum(h.path_ptr[:-1, None] + at, len(h.path_node) - 1)
        self.lengths = torch.from_numpy(lengths.copy())
        self.rows = torch.from_numpy(np.where(inside, h.row_ptr[h.path_node[place]], h.n_rows))
        self.codes = torch.from_numpy(np.where(inside, h.path_child[place], 0).astype(np.float32))
        self.mask = torch.from_numpy(inside.astype(np.float32))
        self.flat = torch.from_numpy(h.row_ptr[h.path_node])
        self.flat_codes = torch.from_numpy(h.path_child.astype(np.float32))
        self.starts = torch.from_numpy(h.path_ptr[:-1].copy())


def path_gathers(h, W, batches):
    """Binary trees in plain torch ops, three ways; the fastest for a shape is the peer.

    The gradient of W is a sparse tensor, as nn.Embedding(sparse=True) makes it: not yet coalesced,
    which is less than what ours returns.
    """
    tables, data = PathTables(h), tensors(batches)
    weight = torch.cat([torch.from_numpy(W), torch.zeros(1, W.shape[1])])
    size = tuple(weight.shape)
    embedding = nn.Embedding.from_pretrained(weight, freeze=False, sparse=True)

    def paths(y):
        width = int(tables.lengths[y].max())
        return tables.rows[y, :width], tables.codes[y, :width], tables.mask[y, :width]

    def autograd(i):
        x, y = data[i % len(data)]
        x = x.detach().requires_grad_()
        rows, codes, mask = paths(y)
        embedding.zero_grad(set_to_none=True)
        z = torch.bmm(embedding(rows), x.unsqueeze(2)).squeeze(2)
        loss = -(functional.logsigmoid((2 * codes - 1) * z) * mask).sum(1)
        loss.sum().backward()

    def padded(i):
        x, y = data[i % len(data)]
        with torch.inference_mode():
            rows, codes, mask = paths(y)
            gathered = functional.embedding(rows, weight)
            z = torch.bmm(gathered, x.unsqueeze(2)).squeeze(2)
            loss = (functional.softplus((1 - 2 * codes) * z) * mask).sum(1)
            delta = (torch.sigmoid(z) - codes) * mask
            dx = torch.bmm(delta.unsqueeze(1), gathered).squeeze(1)
            values = delta.unsqueeze(2) * x.unsqueeze(1)
            grad = torch.sparse_coo_tensor(
                rows.reshape(1, -1), values.flatten(0, 1), size, check_invariants=False
            )
        return loss, dx, grad

    def ragged(i):
        x, y = data[i % len(data)]
        with torch.inference_mode():
            lengths = tables.lengths[y]
            example = torch.repeat_interleave(lengths)
            first = torch.cumsum(lengths, 0) - lengths
            place = torch.arange(len(example)) + (tables.starts[y] - first)[example]
            rows, codes = tables.flat[place], tables.flat_codes[place]
            gathered, inputs = weight.index_select(0, rows), x.index_select(0, example)
            z = (gathered * inputs).sum(1)
            loss = torch.zeros(len(y)).index_add_(
                0, example, functional.softplus((1 - 2 * codes) * z)
            )
            delta = (torch.sigmoid(z) - codes).unsqueeze(1)
            dx = torch.zeros_like(x).index_add_(0, example, gathered.mul_(delta))
            grad = torch.sparse_coo_tensor(
                rows.unsqueeze(0), inputs.mul_(delta), size, check_invariants=False
            )
        return loss, dx, grad

    return {"autograd": autograd, "padded": padded, "ragged": ragged}
