"""Checks of what a caller gives, and the way that serves it: the core, an operator, or plain torch
operations."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from cython_sparseops._hierarchy import Hierarchy

from .ops import OPS, Call, Evaluate, Loss
from .path import path_nll
from .tree import TreeTensors, tree_tensors

_PLAIN = (Tensor, torch.nn.Parameter)
_transforms_active = torch._C._are_functorch_transforms_active


class Batch(NamedTuple):
    """x (N, D) of the dtype of W, target (N,), and the shape of the caller's target."""

    x: Tensor
    target: Tensor
    shape: torch.Size


def require_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")


def as_features(x: Tensor, W: Tensor) -> Tensor:
    """x as (N, D) of W's dtype: autocast and 16-bit layers before the head are cast here."""
    require_tensor("x", x)
    if W.dtype is not torch.float32 and W.dtype is not torch.float64:
        raise TypeError(
            f"weight must be float32 or float64, got {W.dtype}: keep the head in float32"
        )
    if x.device != W.device:
        raise ValueError(f"x must be on the device of weight, {W.device}, got {x.device}")
    if x.ndim == 0 or x.shape[-1] != W.shape[1]:
        raise ValueError(f"x must have shape (..., {W.shape[1]}), got {tuple(x.shape)}")
    if x.dtype is not W.dtype:
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must have a floating dtype, got {x.dtype}")
        x = x.to(W.dtype)
    return x if x.ndim == 2 else x.reshape(-1, W.shape[1])


def as_batch(x: Tensor, target: Tensor, W: Tensor) -> Batch:
    """What `forward` takes, checked."""
    require_tensor("target", target)
    if target.dtype is not torch.int64 and target.dtype is not torch.int32:
        raise TypeError(f"target must have dtype int32 or int64, got {target.dtype}")
    flat = as_features(x, W)
    if target.device != x.device:
        raise ValueError(f"target must be on the device of x, {x.device}, got {target.device}")
    if target.shape != x.shape[:-1]:
        wanted = tuple(x.shape[:-1])
        raise ValueError(f"target must have shape {wanted}, got {tuple(target.shape)}")
    return Batch(flat, target if target.ndim == 1 else target.reshape(-1), target.shape)


def require_weights(W: Tensor, b: Tensor | None, h: Hierarchy) -> None:
    """W (R, D) and b (R,) fit the tree and each other."""
    require_tensor("W", W)
    if W.ndim != 2 or W.shape[0] != h.n_rows:
        raise ValueError(f"W must have shape ({h.n_rows}, D), got {tuple(W.shape)}")
    if b is None:
        return
    require_tensor("b", b)
    if b.shape != W.shape[:1]:
        raise ValueError(f"b must have shape ({h.n_rows},), got {tuple(b.shape)}")
    if b.dtype is not W.dtype or b.device != W.device:
        raise TypeError(
            f"b must have the dtype and the device of W, {W.dtype} on {W.device}, "
            f"got {b.dtype} on {b.device}"
        )


def losses(
    batch: Batch,
    W: Tensor,
    b: Tensor | None,
    tree: TreeTensors,
    ignore_index: int,
    *,
    sparse: bool,
    mean: bool,
) -> tuple[Tensor, Tensor]:
    """nll (N,), negative where `mean`, and its mean over those that are not ignored."""
    x, target, _ = batch
    sparse = sparse and W.is_leaf  # a view of W takes no sparse gradient
    compiling = torch.compiler.is_compiling()
    if not compiling and x.is_cpu and type(x) in _PLAIN and not _transforms_active():
        function = Evaluate if no_gradient(x, W, b) else Loss
        call = Call(tree, ignore_index, sparse, mean)
        found: tuple[Tensor, Tensor] = function.apply(x, W, b, target, call)
        return found
    if x.is_cpu and not _transforms_active():
        nll = OPS.hsoftmax_v1(x, W, b, target, tree.arrays, ignore_index, sparse)
    else:
        static = compiling or x.is_meta or type(x) not in _PLAIN or _transforms_active()
        if not static:
            _require_range(target, tree.n_classes, ignore_index)
        sparse = sparse and not _transforms_active()
        nll = path_nll(x, W, b, target, tree, ignore_index, sparse=sparse, static=static)
    return -nll if mean else nll, nll.sum() / (target != ignore_index).sum()


def _require_range(target: Tensor, n_classes: int, ignore_index: int) -> None:
    """A device would only say that some index is out of range, and be of no use afterwards."""
    outside = (target < 0) | (target >= n_classes)
    outside &= target != ignore_index
    if bool(outside.any()):
        at = int(outside.nonzero().select(0, 0))
        found = int(target.select(0, at))
        raise ValueError(f"target must be in [0, {n_classes}), got {found} at index {at}")


def hsoftmax(
    x: Tensor,
    W: Tensor,
    b: Tensor | None,
    target: Tensor,
    hierarchy: Hierarchy,
    *,
    sparse: bool = True,
    ignore_index: int = -100,
) -> Tensor:
    """Negative log-likelihood of the targets, with gradients for x, W and b.

    Parameters
    ----------
    x : Tensor of shape (..., D), floating
        Inputs; cast to the dtype of W.
    W : Tensor of shape (R, D), float32 or float64
        Decision rows, ``hierarchy.n_rows`` of them.
    b : Tensor of shape (R,), or None
        Biases.
    target : Tensor of int32 or int64, shape (...)
        Classes in ``[0, C)``, or `ignore_index`.
    hierarchy : Hierarchy
        The tree of the C classes.
    sparse : bool, default True
        Gradients of W and b are sparse tensors of the rows that the targets touch, for
        ``torch.optim.SGD``, ``Adagrad`` and ``SparseAdam``; those of a W that is no leaf are dense.
    ignore_index : int, default -100
        Targets that have loss 0 and no gradient.

    Returns
    -------
    Tensor of shape (...)
        In nats, of the dtype of W.

    Raises
    ------
    TypeError, ValueError
        If dtypes, devices or shapes do not fit, a target is out of range, or x is not finite.

    Notes
    -----
    Tensors on the CPU are not copied. On other devices, for second derivatives, and under the
    transforms of ``torch.func`` plain torch operations compute the same, with other last bits.

    References
    ----------
    Morin and Bengio, "Hierarchical probabilistic neural network language model", 2005.

    Examples
    --------
    >>> import torch
    >>> h = Hierarchy.balanced(4)
    >>> W = torch.zeros(h.n_rows, 2, requires_grad=True)
    >>> nll = hsoftmax(torch.ones(1, 2), W, None, torch.tensor([2]), h)
    >>> nll.sum().backward()
    >>> W.grad.coalesce().indices()
    tensor([[0, 2]])
    """
    require_weights(W, b, hierarchy)
    batch = as_batch(x, target, W)
    tree = tree_tensors(hierarchy, W.device)
    nll, _ = losses(batch, W, b, tree, ignore_index, sparse=bool(sparse), mean=False)
    return nll.view(batch.shape)


def no_gradient(*tensors: Any) -> bool:
    """Whether what is computed of these needs no graph."""
    wants = any(t is not None and t.requires_grad for t in tensors)
    return not (wants and torch.is_grad_enabled())
