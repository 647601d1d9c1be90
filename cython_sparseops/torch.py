"""PyTorch: a hierarchical softmax head, and the sparse operators on tensors."""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError(
        f"cython_sparseops.torch needs PyTorch: pip install 'cython-sparseops[torch]' ({error})"
    ) from error

from cython_sparseops._torch.loss import hsoftmax
from cython_sparseops._torch.module import HSoftmax, HSoftmaxOutput
from cython_sparseops._torch.optimizers import RowAdagrad, RowAdam, RowSGD
from cython_sparseops._torch.sharded import ShardedHSoftmax
from cython_sparseops._torch.sparse import (
    SparseDropoutWithReplacement,
    embedding_bag,
    sparse_normalize_rows_,
)

__all__ = [
    "HSoftmax",
    "HSoftmaxOutput",
    "RowAdagrad",
    "RowAdam",
    "RowSGD",
    "ShardedHSoftmax",
    "SparseDropoutWithReplacement",
    "embedding_bag",
    "hsoftmax",
    "sparse_normalize_rows_",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
del _torch, _name
