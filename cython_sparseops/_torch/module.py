"""The layer: a hierarchical softmax as the head of a model."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cython_sparseops._arrays import Array, as_flag, as_integer
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax_log_proba
from cython_sparseops._search import hsoftmax_search
from cython_sparseops._update import as_optimizer

from .loss import Batch, as_batch, as_features, losses, no_gradient
from .ops import OPS, Call, Update, array_of, remember
from .path import path_log_prob
from .recluster import cluster, expand, rows_for
from .tree import TreeTensors, as_tensors, from_tensors


class HSoftmaxOutput(NamedTuple):
    """What `HSoftmax` returns, as ``torch.nn.AdaptiveLogSoftmaxWithLoss`` does.

    Attributes
    ----------
    output : Tensor of the shape of target
        The log-probability of each target, in nats; 0 where it is ignored.
    loss : Tensor of shape ()
        The mean negative log-likelihood of the targets that are not ignored.

    Examples
    --------
    >>> import torch
    >>> HSoftmax(2, 3)(torch.zeros(1, 3), torch.tensor([0])).loss.item() > 0.69
    True
    """

    output: Tensor
    loss: Tensor


torch.utils._pytree._register_namedtuple(  # so that an exported program with it can be saved
    HSoftmaxOutput, serialized_type_name="cython_sparseops.torch.HSoftmaxOutput"
)


class Rows(nn.Embedding):  # type: ignore[misc]
    """The decision rows and biases, and their tree.

    An embedding, because DDP takes the sparse gradients of parameters of one alone.
    """

    def __init__(
        self, h: Hierarchy, dim: int, bias: bool, sparse: bool, device: Any, dtype: Any
    ) -> None:
        weight = torch.empty((h.n_rows, dim), device=device, dtype=dtype)
        self.weight: Tensor
        super().__init__(h.n_rows, dim, sparse=sparse, _weight=weight)
        self.bias = nn.Parameter(torch.empty_like(weight[:, 0])) if bias else None
        self.optimizer: Any = None
        self.plant(h)

    def plant(self, h: Hierarchy) -> None:
        """Take this tree, on the device of the weights."""
        self.tree = TreeTensors(h, self.weight.device)
        remember(self.tree)

    def replant(self, h: Hierarchy, W: Array, b: Array) -> None:
        """Take this tree with these rows, which no optimizer knows."""
        old, self.num_embeddings = self.weight, h.n_rows
        wanted = old.requires_grad
        self.weight = nn.Parameter(torch.from_numpy(W).to(old.device), requires_grad=wanted)
        if self.bias is not None:
            self.bias = nn.Parameter(torch.from_numpy(b).to(old.device), requires_grad=wanted)
        if self.optimizer is not None:
            self.optimizer.state, self.optimizer.step_count = {}, 0
        self.plant(h)

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, *bounds(self.embedding_dim))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _apply(self, fn: Any, recurse: bool = True) -> Rows:
        super()._apply(fn, recurse)
        if self.weight.device != self.tree.device:
            self.plant(self.tree.h)
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """Tensors and numbers alone, which ``torch.load`` takes with ``weights_only=True``."""
        state: dict[str, Any] = {"tree": as_tensors(self.tree.h)}
        if self.optimizer is not None:
            held = self.optimizer.state_dict()
            state["optimizer"] = {
                name: torch.from_numpy(one) if isinstance(one, np.ndarray) else one
                for name, one in held.items()
            }
        return state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The tree has been compared: `_load_from_state_dict` does that before it loads weights."""
        held = state.get("optimizer")
        if held is not None and self.optimizer is not None:
            self.optimizer.load_state_dict(
                {
                    name: array_of(one) if isinstance(one, Tensor) else one
                    for name, one in held.items()
                }
            )

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, *lists: Any
    ) -> None:
        """Refuse the weights of another tree, or load."""
        name = f"{prefix}_extra_state"
        if name in state_dict:
            refusal = self._refuse_tree(state_dict[name])
            if refusal is not None:
                lists[-1].append(f"{name} must hold the tree of this head: {refusal}")
                return
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *lists)

    def _refuse_tree(self, state: Any) -> str | None:
        try:
            found = from_tensors(state["tree"])
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            return f"got none ({error})"
        return None if found == self.tree.h else f"{self.tree.h!r}, got another, {found!r}"


def bounds(dim: int) -> tuple[float, float]:
    return -1 / math.sqrt(dim), 1 / math.sqrt(dim)


def as_hierarchy(given: Any) -> Hierarchy:
    """A tree, that of class counts, or a balanced one of so many classes."""
    if isinstance(given, Hierarchy):
        return given
    if isinstance(given, Tensor):
        given = given.tolist()
    if np.ndim(given) == 0:
        return Hierarchy.balanced(as_integer("hierarchy_or_counts_or_n", given, 1))
    return Hierarchy.huffman(given)


class HSoftmax(nn.Module):  # type: ignore[misc]
    """Hierarchical softmax with the manners of ``torch.nn.AdaptiveLogSoftmaxWithLoss``.

    Parameters
    ----------
    hierarchy_or_counts_or_n : Hierarchy, array_like of shape (C,), or int
        The tree; class counts, for a Huffman tree; or how many classes there are, for a balanced
        one.
    in_features : int
        D, the width of the input.
    bias : bool, default True
        Learn a bias a row.
    sparse : bool, default True
        Gradients are sparse tensors of the touched rows, which ``torch.optim.SGD`` (without weight
        decay), ``Adagrad`` and ``SparseAdam`` take. False makes them dense, for every other one.
    optimizer : SGD, Adagrad or Adam of this package, optional
        Step the touched rows in the backward pass: the fastest way. The parameters then require no
        gradient; leave them out of other optimizers.
    ignore_index : int, default -100
        Targets that count for nothing.
    device, dtype : optional
        As for other modules; float32 or float64.

    Attributes
    ----------
    hierarchy : Hierarchy
    weight : Parameter of shape (R, D)
    bias : Parameter of shape (R,), or None
    in_features, n_classes : int
    optimizer : SGD, Adagrad, Adam or None

    Notes
    -----
    A ``state_dict`` holds the tree, and one of another tree is refused. Weights stay float32 or
    float64; input of another dtype, as under autocast, is cast.

    References
    ----------
    Morin and Bengio, "Hierarchical probabilistic neural network language model", 2005. Grave et
    al., "Efficient softmax approximation for GPUs", 2017.

    Examples
    --------
    >>> import torch
    >>> head = HSoftmax(1e6 / np.arange(1, 1001), 16)
    >>> step = torch.optim.SGD(head.parameters(), lr=0.5)
    >>> x, target = torch.ones(4, 16), torch.tensor([7, 7, 7, 7])
    >>> for _ in range(50):
    ...     step.zero_grad()
    ...     head(x, target).loss.backward()
    ...     step.step()
    >>> head.predict(x)
    tensor([7, 7, 7, 7])
    """

    def __init__(
        self,
        hierarchy_or_counts_or_n: Hierarchy | npt.ArrayLike | int,
        in_features: int,
        *,
        bias: bool = True,
        sparse: bool = True,
        optimizer: Any = None,
        ignore_index: int = -100,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        h, dim = as_hierarchy(hierarchy_or_counts_or_n), as_integer("in_features", in_features, 1)
        self.ignore_index = as_integer("ignore_index", ignore_index)
        self.rows = Rows(h, dim, as_flag("bias", bias), as_flag("sparse", sparse), device, dtype)
        self.in_features = dim
        if optimizer is not None:
            self.rows.optimizer = as_optimizer(optimizer)
            self.rows.requires_grad_(False)
        self.reset_parameters()

    @property
    def hierarchy(self) -> Hierarchy:
        """The tree."""
        return self.rows.tree.h

    @property
    def weight(self) -> Tensor:
        """Decision rows (R, D)."""
        return self.rows.weight

    @property
    def bias(self) -> Tensor | None:
        """Biases (R,), or None."""
        return self.rows.bias

    @property
    def optimizer(self) -> Any:
        """What steps the rows in the backward pass, or None."""
        return self.rows.optimizer

    @property
    def n_classes(self) -> int:
        """C."""
        return self.rows.tree.n_classes

    def reset_parameters(self) -> None:
        """Draw new weights, uniform in ±1/sqrt(D), from torch's generator; biases are 0.

        Examples
        --------
        >>> head = HSoftmax(10, 4)
        >>> head.reset_parameters()
        >>> head.weight.abs().max().item() <= 0.5
        True
        """
        self.rows.reset_parameters()

    def forward(self, x: Tensor, target: Tensor) -> HSoftmaxOutput:
        """Log-probability of each target, and the mean loss.

        Parameters
        ----------
        x : Tensor of shape (..., D), floating
        target : Tensor of int32 or int64, shape (...)

        Returns
        -------
        HSoftmaxOutput
            output (...), loss ().

        Raises
        ------
        TypeError, ValueError
            If dtypes, devices or shapes do not fit, a target is out of range, or x is not finite.

        Examples
        --------
        >>> import torch
        >>> HSoftmax(8, 2).forward(torch.ones(5, 3, 2), torch.zeros(5, 3, dtype=int)).output.shape
        torch.Size([5, 3])
        """
        rows = self.rows
        batch = as_batch(x, target, rows.weight)
        if rows.optimizer is not None and self.training and torch.is_grad_enabled():
            output, loss = self._stepping(batch)
        else:
            output, loss = losses(
                batch,
                rows.weight,
                rows.bias,
                rows.tree,
                self.ignore_index,
                sparse=rows.sparse,
                mean=True,
            )
        shaped = output if len(batch.shape) == 1 else output.view(batch.shape)
        return HSoftmaxOutput(shaped, loss)

    def _stepping(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and loss; the backward pass steps W and b."""
        if not batch.x.is_cpu:
            raise ValueError(
                f"x must be on the CPU for a head with optimizer=, got {batch.x.device}"
            )
        if torch.compiler.is_compiling():
            raise RuntimeError(
                "a head with optimizer= must not be compiled: compile what is before"
            )
        group = torch.distributed
        if group.is_available() and group.is_initialized() and group.get_world_size() > 1:
            raise RuntimeError(
                "a head with optimizer= must be trained by one process, for each would step a copy "
                "of its own: take ShardedHSoftmax"
            )
        anchor = torch.empty((), requires_grad=True)
        rows = self.rows
        found: tuple[Tensor, Tensor] = Update.apply(
            batch.x,
            anchor,
            rows.weight,
            rows.bias,
            batch.target,
            Call(rows.tree, self.ignore_index, True, True, rows.optimizer),
        )
        return found

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probabilities of all classes.

        Parameters
        ----------
        x : Tensor of shape (..., D)

        Returns
        -------
        Tensor of shape (..., C)
            In nats. Where a gradient may be asked for it is computed by torch operations; under
            ``torch.no_grad()`` on a CPU by the faster core.

        Raises
        ------
        TypeError, ValueError
            As for `forward`.

        Examples
        --------
        >>> import torch
        >>> HSoftmax(8, 2).log_prob(torch.ones(3, 2)).logsumexp(1).abs().max().item() < 1e-5
        True
        """
        W, b, tree = self.rows.weight, self.rows.bias, self.rows.tree
        flat = as_features(x, W)
        if flat.is_cpu and no_gradient(flat, W, b) and not torch.compiler.is_compiling():
            bias = None if b is None else array_of(b)
            found = hsoftmax_log_proba(array_of(flat), array_of(W), bias, tree.h)
            log_p = torch.from_numpy(found)
        else:
            log_p = path_log_prob(flat, W, b, tree)
        return log_p.view(*x.shape[:-1], tree.n_classes)

    def predict(self, x: Tensor) -> Tensor:
        """Find the likeliest class of each row, exactly, without scoring all.

        Parameters
        ----------
        x : Tensor of shape (..., D)

        Returns
        -------
        Tensor of int64, shape (...)

        Raises
        ------
        TypeError, ValueError
            As for `forward`.

        Examples
        --------
        >>> import torch
        >>> HSoftmax(8, 2).predict(torch.ones(3, 2)).shape
        torch.Size([3])
        """
        return self.topk(x, 1).indices.squeeze(-1)

    def topk(self, x: Tensor, k: int) -> Any:
        """Find the k likeliest classes of each row, exactly.

        Parameters
        ----------
        x : Tensor of shape (..., D)
        k : int
            At least 1.

        Returns
        -------
        torch.return_types.topk
            values (..., k): log-probabilities, in falling order, without a gradient; indices
            (..., k): classes. On a CPU ties go to the lower class, and places beyond C hold -inf
            and -1.

        Raises
        ------
        TypeError, ValueError
            As for `forward`; if k < 1.

        Examples
        --------
        >>> import torch
        >>> HSoftmax(8, 2).topk(torch.ones(3, 2), 5).indices.shape
        torch.Size([3, 5])
        """
        W, b, tree = self.rows.weight, self.rows.bias, self.rows.tree
        count = as_integer("k", k, 1)
        with torch.no_grad():
            flat = as_features(x, W)
            if not flat.is_cpu:
                values, classes = path_log_prob(flat, W, b, tree).topk(min(count, tree.n_classes))
            elif torch.compiler.is_compiling():
                values, classes = OPS.hsoftmax_search_v1(flat, W, b, tree.arrays, count)
            else:
                bias = None if b is None else array_of(b)
                found = hsoftmax_search(array_of(flat), array_of(W), bias, tree.h, count)
                values, classes = torch.from_numpy(found.log_probs), torch.from_numpy(found.classes)
        shape = (*x.shape[:-1], values.shape[1])
        return torch.return_types.topk((values.view(shape), classes.view(shape)))

    def recluster(
        self,
        *,
        arity: int = 16,
        leaf: int = 128,
        rng: int | np.random.Generator | None = 0,
        vectors: Any = None,
    ) -> HSoftmax:
        """Move the head, in place, to a tree in which classes that it finds similar share paths.

        Parameters
        ----------
        arity, leaf, rng : optional
            As for ``Hierarchy.cluster``.
        vectors : Tensor, array_like or CSR matrix of shape (C, F), optional
            What is clustered, such as the input embeddings of words. By default what the head has
            learned: for each class the sum of the rows on its path, each less the mean of its
            node's rows.

        Returns
        -------
        HSoftmax
            This one.

        Raises
        ------
        TypeError, ValueError
            If an option or a vector does not fit, before anything is changed.

        Notes
        -----
        Kept: the log-probabilities of all classes, and their slopes, at an input of zeros; so
        predictions change more the longer the inputs are, and some steps of training have to
        follow. Without a bias the probabilities at zero cannot be kept, but for those of the tree.

        New: `weight` and `bias` are other parameters, of other shapes. Make optimizers of torch,
        DDP, and what else holds parameters, anew; the optimizer of this package begins without
        state. A ``state_dict`` of before does not fit any more.

        Takes float64 copies of some columns, and once C × D numbers. The same bytes on any number
        of threads, on one kind of processor: the logarithms are NumPy's.

        References
        ----------
        Mnih and Hinton, "A scalable hierarchical distributed language model", 2009.

        Examples
        --------
        >>> head = HSoftmax(1000 / np.arange(1, 301), 8)
        >>> huffman = head.hierarchy
        >>> head.recluster(arity=4, leaf=16).hierarchy == huffman
        False
        """
        rows = self.rows
        W = array_of(rows.weight.cpu())
        b = None if rows.bias is None else array_of(rows.bias.cpu())
        log_p, slopes = expand(self.hierarchy, W, b)
        counts = None if b is None else np.exp(log_p)
        h = cluster(vectors, slopes, counts, arity=arity, leaf=leaf, rng=rng)
        rows.replant(h, *rows_for(h, log_p, slopes))
        return self

    def extra_repr(self) -> str:
        """Say what `repr` shows between the brackets.

        Returns
        -------
        str

        Examples
        --------
        >>> HSoftmax(8, 2).extra_repr()
        'in_features=2, <Hierarchy of 8 classes: 7 nodes, 7 rows, depth 3>'
        """
        stepped = "" if self.optimizer is None else f", optimizer={self.optimizer!r}"
        return f"in_features={self.in_features}, {self.hierarchy!r}{stepped}"
