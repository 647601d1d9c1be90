"""The loss as an autograd function, and as operators for torch.compile and torch.export.

Eager mode takes the function: an operator with a gradient costs several times as much a call.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cython_sparseops._arrays import Array
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax, hsoftmax_gradient
from cython_sparseops._search import hsoftmax_search
from cython_sparseops._update import hsoftmax_update, step_rows

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
    if len(target) <= 16:  # where NumPy's calls cost more
        return len(target) - int(target.tolist().count(ignore_index))
    return len(target) - int(np.count_nonzero(target == ignore_index))


def arrays_of(x: Tensor, W: Tensor, b: MaybeTensor, target: Tensor) -> Arrays:
    return array_of(x), array_of(W), None if b is None else array_of(b), target.numpy()


def _mean(nll: Array, count: int) -> Tensor:
    """Over what is not ignored; NaN if all is, as in torch."""
    mean = np.add.reduce(nll, out=np.empty((), nll.dtype))
    if count != 1:
        np.divide(mean, count or np.nan, out=mean)
    return torch.from_numpy(mean)


def _uniform(upstream: Array) -> float | None:
    """The number that all entries are, if they are one."""
    if upstream.size == 0:
        return 1.0
    first = upstream.flat[0]
    return float(first) if (upstream == first).all() else None


class Call(NamedTuple):
    """What is no tensor: one argument, for each costs a fraction of a microsecond."""

    tree: TreeTensors
    ignore_index: int
    sparse: bool
    mean: bool
    optimizer: Any = None


def _gradient_too(
    ctx: Any, x: Tensor, W: Tensor, b: MaybeTensor, target: Tensor, call: Call
) -> tuple[Tensor, Tensor]:
    """(nll (N,), mean of those that are not ignored), the former negative where `mean`.

    Keeps the gradient too, for the upstream that is likeliest, from one pass over the tree: of the
    mean where `mean`, else of the sum.
    """
    arrays = arrays_of(x, W, b, target)
    count = kept_targets(arrays[3], call.ignore_index)
    upstream = None
    if call.mean and count > 1:
        upstream = np.full(len(arrays[3]), 1 / count, arrays[0].dtype)
    nll, *found = hsoftmax_gradient(
        *arrays,
        call.tree.h,
        grad_output=upstream,
        sparse=call.sparse,
        ignore_index=call.ignore_index,
    )
    ctx.found = found  # an attribute, for it is used once: a second backward pass computes its own
    return _keep(ctx, nll, count, x, W, b, target, call)


def _keep(
    ctx: Any,
    nll: Array,
    count: int,
    x: Tensor,
    W: Tensor,
    b: MaybeTensor,
    target: Tensor,
    call: Call,
) -> tuple[Tensor, Tensor]:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, W, b, target)
    ctx.call, ctx.count = call, count
    return losses_of(nll, count, call.mean)


def losses_of(nll: Array, count: int, mean: bool) -> tuple[Tensor, Tensor]:
    """What a caller gets of the losses, which are used up."""
    loss = _mean(nll, count)
    return torch.from_numpy(np.negative(nll, out=nll) if mean else nll), loss


class Loss(torch.autograd.Function):  # type: ignore[misc]
    """The losses (N,) and their mean, and gradients.

    An upstream that is uniform, but not the one that the forward pass took, scales its gradient;
    what is not uniform computes it anew.
    """

    forward = staticmethod(_gradient_too)

    @staticmethod
    def backward(ctx: Any, g_nll: MaybeTensor, g_loss: MaybeTensor) -> tuple[MaybeTensor, ...]:
        call, count = ctx.call, ctx.count
        if g_nll is not None and call.mean:
            g_nll = -g_nll
        if torch.is_grad_enabled():
            return _differentiable(ctx, g_nll, g_loss)
        x, W, b, target = ctx.saved_tensors
        found, ctx.found = ctx.found, None  # the caller's from here on
        scale = None if found is None else _scale(g_nll, g_loss, call.mean, count)
        if scale is None:
            arrays = arrays_of(x, W, b, target)
            found = hsoftmax_gradient(
                *arrays,
                call.tree.h,
                grad_output=_upstream(g_nll, g_loss, count, len(target), arrays[0].dtype),
                sparse=call.sparse,
                ignore_index=call.ignore_index,
            )[1:]
        elif scale != 1:
            for one in (found[0], found[2], found[3]):
                np.multiply(one, one.dtype.type(scale), out=one)
        dx, rows, dW, db = (None if one is None else torch.from_numpy(one) for one in found)
        if rows is not None:
            rows = rows.unsqueeze(0)
            dW = as_rows(rows, dW, W.size())
            db = None if b is None else as_rows(rows, db, b.size())
        wants = ctx.needs_input_grad
        return (
            dx if wants[0] else None,
            dW if wants[1] else None,
            db if wants[2] else None,
            None,
            None,
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
    x, W, b, target = ctx.saved_tensors
    call, count = ctx.call, ctx.count
    nll = path_nll(x, W, b, target, call.tree, call.ignore_index)
    upstream = torch.zeros_like(nll) if g_nll is None else g_nll
    if g_loss is not None and count:
        upstream = upstream + g_loss / count
    places = [i for i, wanted in enumerate(ctx.needs_input_grad[:3]) if wanted]
    found = torch.autograd.grad(
        nll, [(x, W, b)[i] for i in places], upstream, create_graph=True, allow_unused=True
    )  # of a tree with one class nothing depends on W
    grads: list[MaybeTensor] = [None] * 5
    for i, one in zip(places, found, strict=True):
        grads[i] = one
    return tuple(grads)


class Evaluate(torch.autograd.Function):  # type: ignore[misc]
    """The losses and their mean alone; a function, so that torch refuses forward-mode tangents."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W: Tensor, b: MaybeTensor, target: Tensor, call: Call
    ) -> tuple[Tensor, Tensor]:
        arrays = arrays_of(x, W, b, target)
        nll = hsoftmax(*arrays, call.tree.h, ignore_index=call.ignore_index)
        return losses_of(nll, kept_targets(arrays[3], call.ignore_index), call.mean)


class Update(torch.autograd.Function):  # type: ignore[misc]
    """As `Loss` of the mean with frozen W and b, which the backward pass steps by our optimizer.

    `anchor` requires a gradient, so that there is a backward pass where x needs none. On trees of
    narrow nodes the forward pass computes the gradient, as `Loss` does; wide ones touch so many
    rows that it takes longer to keep their gradient than to compute the scores again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, W: Tensor, b: MaybeTensor, target: Tensor, call: Call
    ) -> tuple[Tensor, Tensor]:
        if call.tree.few_rows:
            return _gradient_too(ctx, x, W, b, target, call)
        arrays, ctx.found = arrays_of(x, W, b, target), None
        nll = hsoftmax(*arrays, call.tree.h, ignore_index=call.ignore_index)
        count = kept_targets(arrays[3], call.ignore_index)
        return _keep(ctx, nll, count, x, W, b, target, call)

    @staticmethod
    def backward(ctx: Any, g_nll: MaybeTensor, g_loss: MaybeTensor) -> tuple[MaybeTensor, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a head with optimizer= steps in its backward pass, which cannot be differentiated "
                "(create_graph=True)"
            )
        x, W, b, target = ctx.saved_tensors
        call, count = ctx.call, ctx.count
        arrays = arrays_of(x, W, b, target)
        found, ctx.found = ctx.found, None
        g_nll = None if g_nll is None else -g_nll
        if found is not None and _scale(g_nll, g_loss, True, count) == 1 and W.is_contiguous():
            dx, rows, dW, db = found
            step_rows(call.optimizer, rows, dW, None if b is None else db, *arrays[1:3])
        else:
            upstream = _upstream(g_nll, g_loss, count, len(target), arrays[0].dtype)
            dx = hsoftmax_update(
                *arrays,
                call.tree.h,
                call.optimizer,
                grad_output=upstream,
                ignore_index=call.ignore_index,
            ).X
        torch.autograd.graph.increment_version([W] if b is None else [W, b])
        return (torch.from_numpy(dx) if ctx.needs_input_grad[0] else None, *[None] * 5)


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
    arrays = arrays_of(x, weight, bias, target)
    return torch.from_numpy(hsoftmax(*arrays, _tree_of(tree), ignore_index=ignore_index))


def _gradient_of(grad: Any, args: Any, sparse: Any) -> Any:
    *tensors, tree, ignore_index = args
    return hsoftmax_gradient(
        *arrays_of(*tensors),
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
