"""The sparse operators on tensors: rows scaled in place, dropout, embedding bag."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cython_sparseops._arrays import Array, as_flag, as_float
from cython_sparseops._bag import as_mode
from cython_sparseops._bag import embedding_bag as bag_of_arrays
from cython_sparseops._dropout import as_rate, sparse_dropout_with_replacement
from cython_sparseops._normalize import sparse_normalize_rows

from .loss import require_tensor
from .ops import array_of

_OF_CORE = (torch.float16, torch.float32, torch.float64)


def sparse_normalize_rows_(
    param: Tensor, rows: Tensor | npt.ArrayLike, *, norm: float = 1.0, max_norm: bool = True
) -> Tensor:
    """Scale the named rows of a table to an l2 norm, in place.

    Parameters
    ----------
    param : Tensor of shape (R, ...), float16, bfloat16, float32 or float64
        Contiguous. Changed in place, which a pending backward pass notices.
    rows : Tensor or array_like of int, any shape
        In ``[0, R)``; duplicates count once.
    norm : float, default 1
    max_norm : bool, default True
        Scale only rows that exceed `norm`.

    Returns
    -------
    Tensor of float64, shape (U,)
        The norms before, of the U distinct rows in ascending order.

    Raises
    ------
    TypeError, ValueError
        As for `cython_sparseops.sparse_normalize_rows`.

    Notes
    -----
    bfloat16, and tensors that are not on the CPU, are scaled by torch operations in float32.

    References
    ----------
    Caffe2's SparseNormalize and Float16SparseNormalize.

    Examples
    --------
    >>> import torch
    >>> table = torch.nn.Embedding(3, 2, _weight=torch.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]]))
    >>> sparse_normalize_rows_(table.weight, torch.tensor([2, 1, 2])).tolist()[1]
    10.0
    >>> table.weight[2].norm().item()
    1.0
    """
    require_tensor("param", param)
    if param.is_cpu and param.dtype in _OF_CORE:
        named = array_of(rows.cpu()) if isinstance(rows, Tensor) else rows
        norms = sparse_normalize_rows(array_of(param), named, norm=norm, max_norm=max_norm)
        torch.autograd.graph.increment_version([param])
        return torch.from_numpy(norms)
    if not param.is_floating_point() or param.ndim == 0:
        raise TypeError(
            f"param must be a table of floats, got {param.dtype} of shape {param.shape}"
        )
    size = as_float("norm", norm)
    if not (np.isfinite(size) and size >= 0):
        raise ValueError(f"norm must be finite and non-negative, got {size}")
    with torch.no_grad():
        distinct = torch.unique(torch.as_tensor(rows, device=param.device))
        picked = param.detach().index_select(0, distinct).float()
        lengths = torch.linalg.vector_norm(picked.flatten(1), dim=1)
        if not bool(lengths.isfinite().all()):
            raise ValueError("param must be finite in the named rows, got nan or inf")
        scaled = (lengths > size) if as_flag("max_norm", max_norm) else (lengths > 0)
        factor = torch.where(scaled, size / lengths, 1).view(-1, *[1] * (param.ndim - 1))
        param.detach().index_copy_(0, distinct, (picked * factor).to(param.dtype))
    return lengths.double()


class SparseDropoutWithReplacement(nn.Module):  # type: ignore[misc]
    """Replace each entry with probability `rate` while training; nothing is rescaled.

    Parameters
    ----------
    rate : float in [0, 1]
    replacement : float, default 0
        What stands in for a dropped entry.
    trainable : bool, default False
        Learn the replacement.

    Attributes
    ----------
    rate : float
    replacement : Tensor of shape (), a Parameter if trainable

    Raises
    ------
    ValueError
        If rate is outside [0, 1].

    Notes
    -----
    The seed of a mask is drawn from torch's generator, so that checkpointing draws the same again;
    the mask is that of `cython_sparseops.sparse_dropout_with_replacement`.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 2014. Caffe2's SparseDropoutWithReplacement.

    Examples
    --------
    >>> import torch
    >>> drop = SparseDropoutWithReplacement(1.0, -1.0)
    >>> drop(torch.ones(3)), drop.eval()(torch.ones(3))
    (tensor([-1., -1., -1.]), tensor([1., 1., 1.]))
    """

    def __init__(self, rate: float, replacement: float = 0.0, trainable: bool = False) -> None:
        super().__init__()
        self.rate = as_rate(rate)
        value = torch.tensor(as_float("replacement", replacement))
        if as_flag("trainable", trainable):
            self.replacement = nn.Parameter(value)
        else:
            self.register_buffer("replacement", value)

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of x, or the stored values of a CSR tensor.

        Parameters
        ----------
        x : Tensor, floating, dense or sparse CSR

        Returns
        -------
        Tensor like x
            x itself in evaluation mode.

        Raises
        ------
        TypeError
            If x is not floating.

        Examples
        --------
        >>> import torch
        >>> SparseDropoutWithReplacement(0.5)(torch.ones(8)).shape
        torch.Size([8])
        """
        require_tensor("x", x)
        if not x.is_floating_point():
            raise TypeError(f"x must have a floating dtype, got {x.dtype}")
        if not self.training or self.rate == 0:
            return x
        if x.layout is torch.sparse_csr:
            return torch.sparse_csr_tensor(
                x.crow_indices(),
                x.col_indices(),
                self._dropped(x.values()),
                x.shape,
                check_invariants=False,
            )
        return self._dropped(x)

    def _dropped(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not x.is_cpu:
            mask = torch.rand(x.shape, device=x.device) < self.rate
        else:
            seed = int(torch.randint(1 << 62, ()))
            blank: Array = np.zeros(tuple(x.shape), np.float16)
            found = sparse_dropout_with_replacement(blank, self.rate, rng=seed, return_mask=True)
            mask = torch.from_numpy(found.mask)
        return torch.where(mask, self.replacement.to(x.dtype), x)

    def extra_repr(self) -> str:
        """Say what `repr` shows between the brackets.

        Returns
        -------
        str

        Examples
        --------
        >>> SparseDropoutWithReplacement(0.25)
        SparseDropoutWithReplacement(rate=0.25, replacement=0.0)
        """
        return f"rate={self.rate}, replacement={self.replacement.item()}"


class _Csr(NamedTuple):
    """What the operators take as a CSR matrix."""

    indptr: Array
    indices: Array
    data: Array
    shape: tuple[int, int]
    format: str = "csr"


class _Bag(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, mode: str, sparse: bool) -> Tensor:
        crow, col, values = x.crow_indices(), x.col_indices(), x.values().detach()
        csr = _Csr(array_of(crow), array_of(col), array_of(values), tuple(x.shape))
        ctx.save_for_backward(crow, col, values, weight)
        ctx.call = mode, sparse
        return torch.from_numpy(bag_of_arrays(csr, array_of(weight), mode=mode))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        crow, col, values, weight = ctx.saved_tensors
        mode, sparse = ctx.call
        row = torch.repeat_interleave(crow.diff())
        values = values.to(weight.dtype)
        if mode == "mean":
            total = torch.zeros(len(crow) - 1, dtype=weight.dtype).index_add(0, row, values.abs())
            values = values / torch.where(total > 0, total, 1).index_select(0, row)
        terms = values.unsqueeze(1) * grad.index_select(0, row)
        indices = col.long().unsqueeze(0)
        found = torch.sparse_coo_tensor(indices, terms, weight.shape, check_invariants=False)
        return None, found if sparse else found.to_dense(), None, None


def embedding_bag(x: Tensor, weight: Tensor, *, mode: str = "mean", sparse: bool = True) -> Tensor:
    """Sum or average the rows of a table that a CSR tensor names.

    Parameters
    ----------
    x : sparse CSR Tensor of shape (N, F)
        Feature weights; on the CPU. It gets no gradient.
    weight : Tensor of shape (F, H), float32 or float64
        Embeddings.
    mode : {"mean", "sum"}
        ``Σ_j x_ij weight_j``, for the mean divided by ``Σ_j |x_ij|``.
    sparse : bool, default True
        The gradient of weight is a sparse tensor.

    Returns
    -------
    Tensor of shape (N, H)
        Zeros for an empty row.

    Raises
    ------
    TypeError, ValueError
        If x is no CSR tensor on the CPU, is not finite, or shapes do not match.

    References
    ----------
    Joulin et al., "Bag of tricks for efficient text classification", 2017.

    Examples
    --------
    >>> import torch
    >>> x = torch.sparse_csr_tensor([0, 2], [1, 2], torch.tensor([1.0, 3.0]), (1, 3))
    >>> embedding_bag(x, torch.tensor([[9.0], [4.0], [8.0]]))
    tensor([[7.]])
    """
    require_tensor("x", x)
    require_tensor("weight", weight)
    if x.layout is not torch.sparse_csr or not x.is_cpu or not weight.is_cpu:
        raise TypeError(
            f"x must be a sparse CSR tensor and on the CPU, as weight must, got {x.layout} on "
            f"{x.device} and weight on {weight.device}"
        )
    if weight.dtype not in _OF_CORE[1:]:
        raise TypeError(f"weight must be float32 or float64, got {weight.dtype}")
    as_mode(mode)
    found: Tensor = _Bag.apply(x, weight, mode, as_flag("sparse", sparse))
    return found
