"""Optimizers of torch's kind whose steps on the rows of a sparse gradient are ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cython_sparseops._update import SGD, Adagrad, Adam, step_rows

from .ops import array_of

FLOATS = torch.float32, torch.float64


class _RowOptimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """Steps the rows that a gradient names, in place and in one pass, or all of a dense one."""

    _kind: Any = None  # the optimizer for arrays
    _state_names: tuple[str, ...] = ()  # as those of torch.optim, whose state dicts fit

    def __init__(self, params: Any, **settings: Any) -> None:
        self._kind(**settings)  # refuses what is out of range
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Parameters
        ----------
        param_group : dict
            As for every optimizer of torch.

        Raises
        ------
        TypeError, ValueError
            If a parameter is no contiguous tensor of float32 or float64 on the CPU.

        Examples
        --------
        >>> import torch
        >>> step = RowSGD([torch.nn.Parameter(torch.ones(3, 2))], lr=0.1)
        >>> step.add_param_group({"params": torch.nn.Parameter(torch.ones(4)), "lr": 0.5})
        >>> len(step.param_groups)
        2
        """
        super().add_param_group(param_group)
        try:
            for parameter in self.param_groups[-1]["params"]:
                _require_parameter(parameter)
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every parameter that has a gradient.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss anew.

        Returns
        -------
        What the closure returned, or None.

        Raises
        ------
        ValueError
            If a gradient is not finite, or so large that its squares may leave the dtype. The
            parameter is as before then.

        Examples
        --------
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(3, 2))
        >>> step = RowSGD([weight], lr=0.5)
        >>> rows = torch.nn.functional.embedding(torch.tensor([1, 1]), weight, sparse=True)
        >>> rows.sum().backward()
        >>> step.step()
        >>> weight[:, 0].tolist()
        [1.0, 0.0, 1.0]
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            kind = self._kind(1.0)
            for name in vars(kind).keys() & group.keys():
                setattr(kind, name, group[name])
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, kind)
        return loss

    def _step(self, parameter: Tensor, grad: Tensor, kind: Any) -> None:
        _require_parameter(parameter)
        state, width = self.state[parameter], parameter[:1].numel() if parameter.ndim else 1
        state.setdefault("step", 0)
        for name in self._state_names:
            if name not in state:
                state[name] = torch.zeros_like(parameter)
        if grad.layout is not torch.sparse_coo:
            # A dense vector is one row, and steps at once.
            shape = (len(parameter), width) if parameter.ndim > 1 else (1, parameter.numel())
            rows, values = None, grad.reshape(shape)
        elif grad.sparse_dim() == 1:
            shape, found = (len(parameter), width), grad._indices()
            rows, values = (
                array_of(found.select(0, 0)),
                grad._values().reshape(found.shape[1], width),
            )
        else:
            raise ValueError(f"grad must be sparse in one dimension, got {grad.sparse_dim()}")
        kind.step_count = int(state["step"])
        if parameter.numel():
            held = [array_of(state[name]).reshape(shape) for name in self._state_names]
            weights, grads = array_of(parameter).reshape(shape), array_of(values.contiguous())
            step_rows(kind, rows, grads, None, weights, None, (*held, *[None] * (4 - len(held))))
            torch.autograd.graph.increment_version(parameter)
        state["step"] = kind.step_count


class RowSGD(_RowOptimizer):
    """Gradient descent on the rows of sparse gradients, and on dense ones.

    Parameters
    ----------
    params : iterable of parameters, or of groups
        Contiguous, on the CPU, of float32 or float64.
    lr : float
        Learning rate; a scheduler may change it.
    weight_decay : float, default 0
        On what a step touches, biases too.

    Raises
    ------
    TypeError, ValueError
        If a setting or a parameter does not fit.

    Notes
    -----
    As ``cython_sparseops.SGD``. ``torch.optim.SGD`` takes no weight decay with sparse gradients.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(3, 2))
    >>> RowSGD([weight], lr=0.1).param_groups[0]["lr"]
    0.1
    """

    _kind = SGD

    def __init__(self, params: Any, lr: float = 1e-3, *, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)


class RowAdagrad(_RowOptimizer):
    """Adagrad on the rows of sparse gradients, and on dense ones.

    Parameters
    ----------
    params, weight_decay
        As for `RowSGD`.
    lr : float, default 0.01
        Learning rate.
    eps : float, default 1e-10
        Keeps the step finite.

    Raises
    ------
    TypeError, ValueError
        As for `RowSGD`.

    Notes
    -----
    As ``cython_sparseops.Adagrad``. Duplicate rows of a gradient are summed in their order, without
    a sort of the whole gradient where they ascend.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", 2011.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(3, 2))
    >>> step = RowAdagrad([weight], lr=0.1)
    >>> torch.nn.functional.embedding(torch.tensor([1]), weight, sparse=True).sum().backward()
    >>> step.step()
    >>> step.state[weight]["sum"].tolist()
    [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """

    _kind = Adagrad
    _state_names = ("sum",)

    def __init__(
        self, params: Any, lr: float = 1e-2, *, eps: float = 1e-10, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay)


class RowAdam(_RowOptimizer):
    """Adam on the rows of sparse gradients, moments and all, and on dense ones.

    Parameters
    ----------
    params, weight_decay
        As for `RowSGD`.
    lr : float, default 0.001
        Learning rate.
    betas : (float, float), default (0.9, 0.999)
        Decay of the moving means.
    eps : float, default 1e-8
        As in ``torch.optim.Adam``; in ``torch.optim.SparseAdam`` it weighs more at first, for it is
        not corrected for bias there.

    Raises
    ------
    TypeError, ValueError
        As for `RowSGD`.

    Notes
    -----
    As ``cython_sparseops.Adam``: rows that a gradient does not name keep their moments.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import torch
    >>> encoder, table = torch.nn.Linear(4, 2), torch.nn.Embedding(9, 4, sparse=True)
    >>> step = RowAdam([*encoder.parameters(), *table.parameters()])
    >>> encoder(table(torch.tensor([3, 3, 7]))).sum().backward()
    >>> step.step()
    """

    _kind = Adam
    _state_names = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def _require_parameter(parameter: Tensor) -> None:
    if parameter.dtype not in FLOATS:
        raise TypeError(f"parameters must be float32 or float64, got {parameter.dtype}")
    if not parameter.is_cpu:
        raise ValueError(f"parameters must be on the CPU, got {parameter.device}")
    if not parameter.is_contiguous():
        raise ValueError(f"parameters must be contiguous, got strides {parameter.stride()}")
