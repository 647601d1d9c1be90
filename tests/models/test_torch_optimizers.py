"""Optimizers of torch's kind: the numbers of torch's own, and of the functions for arrays."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cython_sparseops as cso  # noqa: E402
from cython_sparseops.torch import HSoftmax, RowAdagrad, RowAdam, RowSGD  # noqa: E402

KINDS = {
    "SGD": (RowSGD, cso.SGD, torch.optim.SGD),
    "Adagrad": (RowAdagrad, cso.Adagrad, torch.optim.Adagrad),
    "Adam": (RowAdam, cso.Adam, torch.optim.Adam),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def table(rows=7, width=5, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.nn.Parameter(torch.randn(rows, width, dtype=dtype))


def named(parameter, rows, seed=0):
    """A gradient of these rows, in this order, however often each is named."""
    torch.manual_seed(seed)
    values = torch.randn(len(rows), *parameter.shape[1:], dtype=parameter.dtype)
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, parameter.shape)


# ---- agrees with torch and with the core


@each_kind
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(), (6,), (4, 3), (2, 3, 2)])
def test_a_dense_gradient_steps_as_in_torch(kind, decay, shape):
    ours, _, theirs = KINDS[kind]
    torch.manual_seed(0)
    mine = torch.nn.Parameter(torch.randn(shape, dtype=torch.float64))
    other = copy.deepcopy(mine)
    pair = [one([p], lr=0.1, weight_decay=decay) for one, p in ((ours, mine), (theirs, other))]
    for seed in range(4):
        torch.manual_seed(seed)
        mine.grad = torch.randn(shape, dtype=torch.float64)
        other.grad = mine.grad.clone()
        for one in pair:
            one.step()
    assert (mine - other).abs().max() <= 1e-13 * (1 + other.abs().max())


@each_kind
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_rows_that_a_gradient_names_step_as_in_torch(kind, decay):
    ours, _, theirs = KINDS[kind]
    mine, rows = table(), [5, 0, 5, 3, 0, 5]
    chosen = sorted(set(rows))
    other = torch.nn.Parameter(mine.detach()[chosen].clone())
    before = mine.detach().clone()
    pair = [one([p], lr=0.1, weight_decay=decay) for one, p in ((ours, mine), (theirs, other))]
    for seed in range(4):
        mine.grad = named(mine, rows, seed)
        other.grad = mine.grad.to_dense()[chosen]
        for one in pair:
            one.step()
    assert (mine[chosen] - other).abs().max() <= 1e-13 * (1 + other.abs().max())
    left = [i for i in range(len(mine)) if i not in chosen]
    assert torch.equal(mine[left], before[left])


@each_kind
@pytest.mark.parametrize("bias", [True, False])
def test_a_head_has_the_bytes_of_the_function_for_arrays(kind, bias):
    ours, of_arrays, _ = KINDS[kind]
    torch.manual_seed(0)
    head = HSoftmax(1000 / np.arange(1, 61), 8, bias=bias)
    W = head.weight.detach().numpy().copy()
    b = head.bias.detach().numpy().copy() if bias else None
    step, exact = ours(head.parameters(), lr=0.1), of_arrays(0.1)
    for _ in range(3):
        x, target = torch.randn(16, 8), torch.randint(60, (16,))
        step.zero_grad()
        head(x, target).loss.backward()
        step.step()
        mean = np.full(16, 1 / 16, "f")
        cso.hsoftmax_update(
            x.numpy(), W, b, target.numpy(), head.hierarchy, exact, grad_output=mean
        )
    assert (head.weight.detach().numpy() == W).all()
    if bias:  # which the function steps without a fused multiply-add
        assert np.abs(head.bias.detach().numpy() - b).max() <= 4 * np.finfo("f").eps


# ---- manners of torch


@each_kind
def test_a_scheduler_a_closure_and_several_groups_are_obeyed(kind):
    ours = KINDS[kind][0]
    first, second = table(), torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    step = ours([{"params": [first], "lr": 0.5}, {"params": [second]}], lr=0.25)
    schedule = torch.optim.lr_scheduler.LambdaLR(step, lambda epoch: float(epoch > 0))
    at_first = [p.detach().clone() for p in (first, second)]

    def closure():
        step.zero_grad()
        loss = first.square().sum() + second.sum()
        loss.backward()
        return loss

    loss = step.step(closure)
    assert loss.item() == (at_first[0].square().sum() + 3).item()
    for p, before in zip((first, second), at_first, strict=True):
        assert torch.equal(p, before)  # the first learning rate is 0
    schedule.step()
    step.step(closure)
    assert (first != at_first[0]).all()
    assert (second < 1).all()


@each_kind
def test_saved_state_goes_on_with_the_same_bytes(kind, tmp_path):
    ours = KINDS[kind][0]

    def steps(parameter, step, seeds):
        for seed in seeds:
            parameter.grad = named(parameter, [1, 4], seed)
            step.step()
        return parameter.detach().clone()

    whole = table()
    exact = steps(whole, ours([whole], lr=0.1), range(4))
    half = table()
    step = ours([half], lr=0.1)
    steps(half, step, range(2))
    torch.save(step.state_dict(), tmp_path / "state.pt")
    copied, again = copy.deepcopy((half, step))
    resumed = ours([half], lr=9.0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(steps(half, resumed, range(2, 4)), exact)
    assert torch.equal(steps(copied, again, range(2, 4)), exact)


def test_the_state_of_optimizers_of_torch_fits():
    for ours, theirs in (
        (RowAdam, torch.optim.SparseAdam),
        (RowAdagrad, torch.optim.Adagrad),
        (RowSGD, torch.optim.SGD),
    ):
        mine, other = table(), table()
        with torch.no_grad():
            mine.copy_(other)
        first = theirs([other], lr=0.1)
        other.grad = named(other, [1, 4])
        first.step()
        with torch.no_grad():
            mine.copy_(other)
        second = ours([mine], lr=0.1)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        for step, p in ((first, other), (second, mine)):
            p.grad = named(p, [1, 2], 1)
            step.step()
        assert (mine - other).abs().max() <= 1e-6  # SparseAdam's eps weighs more


def test_a_step_is_seen_by_pending_backward_passes():
    parameter = table()
    loss = parameter.square().sum()
    step = RowSGD([parameter], lr=0.1)
    parameter.grad = named(parameter, [1])
    step.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---- edges and rejections


@each_kind
def test_gradients_without_rows_and_parameters_without_entries_do_nothing(kind):
    ours = KINDS[kind][0]
    parameters = [table(), table(0, 5), table(4, 0), torch.nn.Parameter(torch.ones(3))]
    before = [p.detach().clone() for p in parameters]
    step = ours(parameters, lr=0.1)
    for p in parameters[:-1]:
        p.grad = named(p, [])
    step.step()
    assert all(torch.equal(p, one) for p, one in zip(parameters, before, strict=True))


@each_kind
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_gradient_without_room_is_refused_before_anything_is_written(kind, bad):
    ours = KINDS[kind][0]
    parameter = table(dtype=torch.float32)
    step = ours([parameter], lr=1e9)
    parameter.grad = named(parameter, [6, 2])
    step.step()
    held = [t.clone() for t in step.state[parameter].values() if isinstance(t, torch.Tensor)]
    before = parameter.detach().clone()
    parameter.grad._values()[1, 3] = bad
    word = "must be finite, got" if bad != 1e30 else "must keep its sums and their squares"
    with pytest.raises(ValueError, match=word):
        step.step()
    assert torch.equal(parameter, before)
    now = [t for t in step.state[parameter].values() if isinstance(t, torch.Tensor)]
    assert all(torch.equal(one, other) for one, other in zip(held, now, strict=True))
    assert step.state[parameter]["step"] == 1


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(TypeError, match=r"must be float32 or float64, got torch\.float16"):
        RowSGD([torch.nn.Parameter(torch.ones(2).half())])
    with pytest.raises(ValueError, match="parameters must be on the CPU, got meta"):
        RowSGD([torch.nn.Parameter(torch.ones(2, device="meta"))])
    with pytest.raises(ValueError, match=r"parameters must be contiguous, got strides \(1, 3\)"):
        RowSGD([torch.nn.Parameter(torch.ones(2, 3).T)])
    with pytest.raises(ValueError, match="lr must be finite and positive, got -1"):
        RowAdam([table()], lr=-1)
    with pytest.raises(ValueError, match=r"betas must be in \[0, 1\)"):
        RowAdam([table()], betas=(0.9, 1.0))
    parameter = table()
    step = RowAdagrad([parameter])
    parameter.grad = torch.sparse_coo_tensor([[1], [2]], [1.0], (7, 5), dtype=torch.float64)
    with pytest.raises(ValueError, match="grad must be sparse in one dimension, got 2"):
        step.step()


# ---- promises


@each_kind
def test_the_number_of_threads_changes_no_byte(kind):
    ours, found = KINDS[kind][0], []
    rows = np.random.default_rng(0).integers(900, size=3000).tolist()
    for threads in (1, 2, 3):
        parameter = table(900, 64, torch.float32)
        step = ours([parameter], lr=0.1)
        before = cso.get_num_threads()
        cso.set_num_threads(threads)
        try:
            for seed in range(2):
                parameter.grad = named(parameter, rows, seed)
                step.step()
        finally:
            cso.set_num_threads(before)
        found.append(parameter.detach().numpy().tobytes())
    assert len(set(found)) == 1
