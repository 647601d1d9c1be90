"""The loss as an autograd function, and as operators for torch.compile and torch.export.

Eager mode takes the function: an operator with a gradient costs several times as much a call.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cython_sparseops._arrays import Array
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax, hsoftmax_gradient
from cython_sparseops._search import hsoftmax_search
from cython_sparseops._update import hsoftmax_update

from .path import path_nll
from .tree import NAMES, TreeTensors, from_tensors

MaybeTensor: TypeAlias = "Tensor | None"  # a string: documentation is made without torch
Arrays: TypeAlias = tuple[Array, Array, Array | None, Array]


def array_of(tensor: Tensor) -> Array:
    """The memory of a tensor on the CPU."""
    array: Array = tensor.detach().numpy()
    return array


def as_rows(rows: Tensor, values: Tensor, size: torch.Size) -> Tensor:
    """A gradient of these rows (1, T), ascending, of a parameter of this size."""
    return torch.sparse_coo_tensor(rows, values, size, is_coalesced=True, check_invariants=False)


def kept_targets(target: Array, ignore_index: int) -> int:
    return len(target) - int(np.count_nonzero(target == ignore_index))


def _arrays(x: Tensor, W: Tensor, b: MaybeTensor, target: Tensor) -> Arrays:
    return array_of(x), array_of(W), None if b is None else array_of(b), array_of(target)


def _mean(nll: Array, count: int) -> Tensor:
    """Over what is not ignored; NaN if all is, as in torch."""
    total = np.add.reduce(nll)
    return torch.from_numpy(np.array(total / count if count else np.nan, nll.dtype))


def _uniform(upstream: Array) -> float | None:
    """The number that all entries are, if they are one."""
    if upstream.size == 0:
        return 1.0
    first = upstream.flat[0]
    return float(first) if (upstream == first).all() else None


class Loss(torch.autograd.Function):  # type: ignore[misc]
    """(nll (N,), mean of those that are not ignored), the former negative where `mean`.

    The forward pass computes the gradient too, for the upstream that is likeliest, in one pass over
    the tree: of the mean where `mean`, else of the sum. Another upstream that is uniform scales it;
    what is not computes the gradient anew.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        W: Tensor,
        b: MaybeTensor,
        target: Tensor,
        tree: TreeTensors,
        ignore_index: int,
        sparse: bool,
        mean: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        arrays = _arrays(x, W, b, target)
        count = kept_targets(arrays[3], ignore_index)
        upstream = None
        if mean and count > 1:
            upstream = np.full(len(target), 1 / count, arrays[0].dtype)
        nll, dx, rows, dW, db = hsoftmax_gradient(
            *arrays, tree.h, grad_output=upstream, sparse=sparse, ignore_index=ignore_index
        )
        found = [dx, dW, db] if rows is None else [dx, dW, db, rows]
        ctx.save_for_backward(x, W, b, target, *map(torch.from_numpy, found))
        ctx.call = tree, ignore_index, sparse, mean, count
        ctx.fresh = True
        loss = _mean(nll, count)
        return torch.from_numpy(np.negative(nll, out=nll) if mean else nll), loss

    @staticmethod
    def backward(ctx: Any, g_nll: MaybeTensor, g_loss: MaybeTensor) -> tuple[MaybeTensor, ...]:
        if g_nll is not None and ctx.call[3]:
            g_nll = -g_nll
        if torch.is_grad_enabled():
            return _differentiable(ctx, g_nll, g_loss)
        x, W, b, target, dx, dW, db, *rows = ctx.saved_tensors
        tree, ignore_index, sparse, mean, count = ctx.call
        scale = _scale(g_nll, g_loss, mean, count)
        if scale is None or not ctx.fresh:
            upstream = _upstream(g_nll, g_loss, count, len(target), array_of(x).dtype)
            g = hsoftmax_gradient(
                *_arrays(x, W, b, target),
                tree.h,
                grad_output=upstream,
                sparse=sparse,
                ignore_index=ignore_index,
            )
            found = (g.X, g.W, g.b) if g.rows is None else (g.X, g.W, g.b, g.rows)
            dx, dW, db, *rows = map(torch.from_numpy, found)
        elif scale != 1:
            for one in (dx, dW, db):
                array = one.numpy()
                np.multiply(array, array.dtype.type(scale), out=array)
        ctx.fresh = False  # they are the caller's from here on
        if rows:
            touched = rows[0].unsqueeze(0)
            dW = as_rows(touched, dW, W.size())
            db = None if b is None else as_rows(touched, db, b.size())
        wants = ctx.needs_input_grad
        return (
            dx if wants[0] else None,
            dW if wants[1] else None,
            db if wants[2] else None,
            *[None] * 5,
        )


def _scale(g_nll: MaybeTensor, g_loss: MaybeTensor, mean: bool, count: int) -> float | None:
    """By what to multiply the gradient that the forward pass took; None if no number will do."""
    if g_nll is None:
        whole = 0.0 if g_loss is None or count == 0 else g_loss.item()
        return whole if mean or count == 0 else whole / count
    if g_loss is not None:
        return None
    one = _uniform(array_of(g_nll))
    return one if one is None or not mean else one * max(count, 1)


def _upstream(
    g_nll: MaybeTensor, g_loss: MaybeTensor, count: int, n: int, dtype: np.dtype[Any]
) -> Array:
    upstream = np.zeros(n, dtype) if g_nll is None else array_of(g_nll).astype(dtype)
    if g_loss is not None and count:
        upstream += dtype.type(g_loss.item() / count)
    return upstream


def _differentiable(ctx: Any, g_nll: MaybeTensor, g_loss: MaybeTensor) -> tuple[MaybeTensor, ...]:
    """The backward pass as a graph of its own, where it is to be differentiated again."""
    x, W, b, target = ctx.saved_tensors[:4]
    tree, ignore_index, _, _, count = ctx.call
    nll = path_nll(x, W, b, target, tree, ignore_index)
    upstream = torch.zeros_like(nll) if g_nll is None else g_nll
    if g_loss is not None and count:
        upstream = upstream + g_loss / count
    places = [i for i, wanted in enumerate(ctx.needs_input_grad[:3]) if wanted]
    found = torch.autograd.grad(
        nll, [(x, W, b)[i] for i in places], upstream, create_graph=True, allow_unused=True
    )  # of a tree with one class nothing depends on W
    grads: list[MaybeTensor] = [None] * 8
    for i, one in zip(places, found, strict=True):
        grads[i] = one
    return tuple(grads)


class Update(torch.autograd.Function):  # type: ignore[misc]
    """As `Loss` of the mean with frozen W and b, which the backward pass steps by our optimizer.

    `anchor` requires a gradient, so that there is a backward pass where x needs none.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        anchor: Tensor,
        W: Tensor,
        b: MaybeTensor,
        target: Tensor,
        tree: TreeTensors,
        ignore_index: int,
        optimizer: Any,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        arrays = _arrays(x, W, b, target)
        nll = hsoftmax(*arrays, tree.h, ignore_index=ignore_index)
        count = kept_targets(arrays[3], ignore_index)
        ctx.save_for_backward(x, W, b, target)
        ctx.call = tree, ignore_index, optimizer, count
        loss = _mean(nll, count)
        return torch.from_numpy(np.negative(nll, out=nll)), loss

    @staticmethod
    def backward(ctx: Any, g_nll: MaybeTensor, g_loss: MaybeTensor) -> tuple[MaybeTensor, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a head with optimizer= steps in its backward pass, which cannot be differentiated "
                "(create_graph=True)"
            )
        x, W, b, target = ctx.saved_tensors
        tree, ignore_index, optimizer, count = ctx.call
        arrays = _arrays(x, W, b, target)
        down = None if g_nll is None else -g_nll
        upstream = _upstream(down, g_loss, count, len(target), arrays[0].dtype)
        step = hsoftmax_update(
            *arrays, tree.h, optimizer, grad_output=upstream, ignore_index=ignore_index
        )
        changed = [W] if b is None else [W, b]
        torch.autograd.graph.increment_version(changed)
        dx = torch.from_numpy(step.X) if ctx.needs_input_grad[0] else None
        return (dx, *[None] * 7)


# ---- operators, whose tree travels as six tensors so that an exported program holds it

_LIBRARY = torch.library.Library("cython_sparseops", "DEF")
# torch.compile's cache on disk does not know the formula of a gradient, but the name: it has a
# number, to be raised with the formula.
_LOSS, _GRADIENT = "hsoftmax_v1", "hsoftmax_gradient_v1"
_DENSE, _SEARCH = "hsoftmax_gradient_dense_v1", "hsoftmax_search_v1"
_INPUT = "Tensor x, Tensor weight, Tensor? bias, Tensor target, Tensor[] tree, int ignore_index"
_LIBRARY.define(f"{_LOSS}({_INPUT}, bool sparse) -> Tensor")
_LIBRARY.define(f"{_GRADIENT}(Tensor grad, {_INPUT}) -> (Tensor, Tensor, Tensor, Tensor)")
_LIBRARY.define(f"{_DENSE}(Tensor grad, {_INPUT}) -> (Tensor, Tensor, Tensor)")
_LIBRARY.define(
    f"{_SEARCH}(Tensor x, Tensor weight, Tensor? bias, Tensor[] tree, int k) -> (Tensor, Tensor)"
)

_TREES: Any = WeakTensorKeyDictionary()  # path_ptr: (versions, tree)


def _versions(tensors: list[Tensor]) -> list[int]:
    return [0 if t.is_inference() else t._version for t in tensors]


def remember(tree: TreeTensors) -> None:
    """The operators find the tree of these tensors without building it anew."""
    if tree.device.type == "cpu":
        _TREES[tree.arrays[0]] = _versions(tree.arrays), tree.h


def _tree_of(tensors: list[Tensor]) -> Hierarchy:
    versions = _versions(tensors)
    known = _TREES.get(tensors[0])
    if known is None or known[0] != versions:
        known = versions, from_tensors(dict(zip(NAMES, tensors, strict=True)))
        _TREES[tensors[0]] = known
    h: Hierarchy = known[1]
    return h


def _loss(
    x: Any, weight: Any, bias: Any, target: Any, tree: Any, ignore_index: Any, sparse: Any
) -> Any:
    arrays = _arrays(x, weight, bias, target)
    return torch.from_numpy(hsoftmax(*arrays, _tree_of(tree), ignore_index=ignore_index))


def _gradient_of(grad: Any, args: Any, sparse: Any) -> Any:
    *tensors, tree, ignore_index = args
    return hsoftmax_gradient(
        *_arrays(*tensors),
        _tree_of(tree),
        grad_output=array_of(grad),
        sparse=sparse,
        ignore_index=ignore_index,
    )


def _gradient(grad: Any, *args: Any) -> Any:
    g = _gradient_of(grad, args, True)
    return tuple(torch.from_numpy(one) for one in (g.X, g.rows, g.W, g.b))


def _gradient_dense(grad: Any, *args: Any) -> Any:
    g = _gradient_of(grad, args, False)
    return tuple(torch.from_numpy(one) for one in (g.X, g.W, g.b))


def _search(x: Any, weight: Any, bias: Any, tree: Any, k: Any) -> Any:
    b = None if bias is None else array_of(bias)
    found = hsoftmax_search(array_of(x), array_of(weight), b, _tree_of(tree), k)
    return torch.from_numpy(found.log_probs), torch.from_numpy(found.classes)


def _fake_loss(
    x: Any, weight: Any, bias: Any, target: Any, tree: Any, ignore_index: Any, sparse: Any
) -> Any:
    return x.new_empty(target.shape)


def _fake_gradient(
    grad: Any, x: Any, weight: Any, bias: Any, target: Any, tree: Any, ignore_index: Any
) -> Any:
    rows = torch.library.get_ctx().new_dynamic_size(min=0)
    dW = weight.new_empty((rows, weight.shape[1]))
    return torch.empty_like(x), target.new_empty(rows, dtype=torch.int64), dW, dW.new_empty(rows)


def _fake_gradient_dense(
    grad: Any, x: Any, weight: Any, bias: Any, target: Any, tree: Any, ignore_index: Any
) -> Any:
    return torch.empty_like(x), torch.empty_like(weight), weight.new_empty(weight.shape[0])


def _fake_search(x: Any, weight: Any, bias: Any, tree: Any, k: Any) -> Any:
    return x.new_empty((x.shape[0], k)), x.new_empty((x.shape[0], k), dtype=torch.int64)


for _name, _kernel, _fake in (
    (_LOSS, _loss, _fake_loss),
    (_GRADIENT, _gradient, _fake_gradient),
    (_DENSE, _gradient_dense, _fake_gradient_dense),
    (_SEARCH, _search, _fake_search),
):
    _LIBRARY.impl(_name, _kernel, "CPU")
    torch.library.register_fake(f"cython_sparseops::{_name}", _fake, lib=_LIBRARY)

OPS: Any = torch.ops.cython_sparseops


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, target, tree, ignore_index, sparse = inputs
    ctx.save_for_backward(x, weight, bias, target, *tree)
    ctx.ignore_index, ctx.sparse = ignore_index, sparse


def _formula(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, bias, target, *tree = ctx.saved_tensors
    args = grad.contiguous(), x, weight, bias, target, tree, ctx.ignore_index
    if ctx.sparse:
        dx, rows, dW, db = OPS.hsoftmax_gradient_v1(*args)
        rows = rows.unsqueeze(0)
        dW, db = as_rows(rows, dW, weight.shape), as_rows(rows, db, weight.shape[:1])
    else:
        dx, dW, db = OPS.hsoftmax_gradient_dense_v1(*args)
    return dx, dW, None if bias is None else db, None, [None] * len(tree), None, None


torch.library.register_autograd(
    f"cython_sparseops::{_LOSS}", _formula, setup_context=_save, lib=_LIBRARY
)
