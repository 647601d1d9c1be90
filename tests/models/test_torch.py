"""The PyTorch head: losses, gradients, optimizers, what is refused, and state."""

import copy
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cython_sparseops as cso  # noqa: E402
from cython_sparseops.torch import HSoftmax, hsoftmax  # noqa: E402
from helpers.batches import make_batch  # noqa: E402
from helpers.hierarchies import BUILDERS  # noqa: E402

Hierarchy = cso.Hierarchy
each_tree = pytest.mark.parametrize("builder", ["huffman", "two_level"])


def tensors(p):
    """X, W, b and labels as tensors that share memory with the arrays; X, W, b want a gradient."""
    floats = [None if a is None else torch.from_numpy(a).requires_grad_() for a in p[:3]]
    return *floats, torch.from_numpy(p.labels)


def head_of(p, **options):
    """A head with the weights of a batch."""
    dtype = torch.from_numpy(p.W).dtype
    head = HSoftmax(p.h, p.W.shape[1], bias=p.b is not None, dtype=dtype, **options)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(p.W))
        if p.b is not None:
            head.bias.copy_(torch.from_numpy(p.b))
    return head


def dense(gradient):
    return gradient.to_dense().numpy()


# ---- agrees with the core


@each_tree
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_losses_and_gradients_are_those_of_the_core(builder, dtype, bias, sparse, index):
    p = make_batch(BUILDERS[builder](20), N=9, dtype=dtype, bias=bias, index=index)
    x, W, b, y = tensors(p)
    nll = hsoftmax(x, W, b, y, p.h, sparse=sparse)
    nll.sum().backward()
    g = cso.hsoftmax_gradient(*p, sparse=False)
    assert (nll.detach().numpy() == g.nll).all()
    assert (x.grad.numpy() == g.X).all()
    assert W.grad.is_sparse == sparse
    assert (dense(W.grad) == g.W).all()
    assert b is None or (dense(b.grad) == g.b).all()


@each_tree
def test_the_mean_loss_has_the_bytes_of_the_core_too(builder):
    p = make_batch(BUILDERS[builder](20), N=9, dtype="float32")
    head, x = head_of(p), torch.from_numpy(p.X).requires_grad_()
    output, loss = head(x, torch.from_numpy(p.labels))
    loss.backward()
    g = cso.hsoftmax_gradient(*p, grad_output=np.full(9, 1 / 9, "f"))
    assert (output.detach().numpy() == -g.nll).all()
    assert abs(loss.item() - g.nll.mean()) <= 9 * np.finfo("f").eps * g.nll.max()
    assert (x.grad.numpy() == g.X).all()
    found = head.weight.grad.coalesce()
    assert (found.indices()[0].numpy() == g.rows).all()
    assert (found.values().numpy() == g.W).all()


UPSTREAMS = {
    "uniform": lambda nll: 0.37 * nll.sum(),
    "negative": lambda nll: -2 * nll.sum(),
    "any": lambda nll: (nll * torch.linspace(-1, 2, len(nll), dtype=nll.dtype)).sum(),
    "squares": lambda nll: nll.square().sum(),
    "nothing": lambda nll: 0 * nll.sum(),
}


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("mean", [True, False])
def test_any_upstream_gradient_reaches_x_and_the_rows(upstream, mean):
    """The forward pass computes the gradient of the likeliest upstream; others follow exactly."""
    p = make_batch(BUILDERS["huffman"](20), N=9)
    x, W, b, y = tensors(p)
    if mean:
        head = head_of(p, sparse=False)
        output, loss = head(x, y)
        (UPSTREAMS[upstream](-output) + 3 * loss).backward()
        W, b = head.weight, head.bias
    else:
        UPSTREAMS[upstream](hsoftmax(x, W, b, y, p.h)).backward()
    losses = torch.from_numpy(cso.hsoftmax(*p)).requires_grad_()
    (UPSTREAMS[upstream](losses) + (3 * losses.mean() if mean else 0)).backward()
    g = cso.hsoftmax_gradient(*p, grad_output=losses.grad.numpy(), sparse=False)
    bound = p.gradient_tolerance(1 + np.abs(losses.grad.numpy()).max())
    assert np.abs(x.grad.numpy() - g.X).max() <= bound
    assert np.abs(dense(W.grad) - g.W).max() <= bound
    assert np.abs(dense(b.grad) - g.b).max() <= bound


def test_a_second_backward_pass_adds_the_same_gradient():
    p = make_batch(BUILDERS["huffman"](20), N=9)
    x, W, b, y = tensors(p)
    loss = 0.5 * hsoftmax(x, W, b, y, p.h).sum()
    loss.backward(retain_graph=True)
    first = [dense(t.grad).copy() for t in (x, W, b)]
    loss.backward()
    for one, t in zip(first, (x, W, b), strict=True):
        assert np.abs(dense(t.grad) - 2 * one).max() <= p.gradient_tolerance(2)
    assert (np.diff(W.grad.coalesce().indices()[0]) > 0).all()


def test_log_prob_predict_and_topk_are_those_of_the_core():
    p = make_batch(BUILDERS["huffman"](20), N=6, dtype="float32")
    head, x = head_of(p), torch.from_numpy(p.X.reshape(2, 3, 5))
    exact = cso.hsoftmax_log_proba(p.X, p.W, p.b, p.h)
    with torch.no_grad():
        assert (head.log_prob(x).view(6, 20).numpy() == exact).all()
    with_graph = head.log_prob(x)
    assert with_graph.shape == (2, 3, 20)
    assert np.abs(with_graph.detach().view(6, 20).numpy() - exact).max() <= p.tolerance
    found = cso.hsoftmax_search(p.X, p.W, p.b, p.h, 4)
    top = head.topk(x, 4)
    assert (top.indices.view(6, 4).numpy() == found.classes).all()
    assert (top.values.view(6, 4).numpy() == found.log_probs).all()
    assert (head.predict(x).view(6).numpy() == found.classes[:, 0]).all()
    assert head.topk(x, 99).indices[0, 0, -1] == -1


# ---- mathematics


@each_tree
def test_first_and_second_derivatives_pass_gradcheck(builder):
    p = make_batch(BUILDERS[builder](7), N=3, D=2)
    x, W, b, y = tensors(p)

    def function(x, W, b):
        return hsoftmax(x, W, b, y, p.h, sparse=False)

    assert torch.autograd.gradcheck(function, (x, W, b))
    assert torch.autograd.gradgradcheck(function, (x, W, b))


def test_a_penalty_on_the_gradient_has_a_gradient():
    """With once_differentiable it had none after a mean, without a word."""
    p = make_batch(BUILDERS["huffman"](7), N=4)
    x, *_, y = tensors(p)
    head = head_of(p, sparse=False)
    (dx,) = torch.autograd.grad(head(x, y).loss, x, create_graph=True)
    dx.square().sum().backward()
    assert head.weight.grad.abs().max() > 0.01


def test_transforms_of_torch_func_give_gradients_of_each_example():
    p = make_batch(BUILDERS["huffman"](9), N=5)
    x, W, b, y = (t.detach() for t in tensors(p))

    def loss(W, x, y):
        return hsoftmax(x.unsqueeze(0), W, b, y.unsqueeze(0), p.h).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(W, x, y)
    for i in range(5):
        g = cso.hsoftmax_gradient(p.X[i : i + 1], p.W, p.b, p.labels[i : i + 1], p.h, sparse=False)
        assert np.abs(each[i].numpy() - g.W).max() <= p.gradient_tolerance()


# ---- optimizers

WITH_SPARSE = {
    "SGD": {"lr": 0.5},
    "SGD with momentum": {"lr": 0.1, "momentum": 0.9},
    "Adagrad": {"lr": 0.5},
    "SparseAdam": {"lr": 0.1},
}
WITH_DENSE = {
    "SGD with decay": {"lr": 0.5, "weight_decay": 0.01},
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1},
    "RMSprop": {"lr": 0.05},
    "NAdam": {"lr": 0.1},
    "Adamax": {"lr": 0.1},
    "Adadelta": {"lr": 1.0},
}


@pytest.mark.parametrize("name", WITH_SPARSE | WITH_DENSE)
def test_optimizers_of_torch_bring_the_loss_down(name):
    sparse = name in WITH_SPARSE
    p = make_batch(BUILDERS["huffman"](20), N=30, dtype="float32")
    head, y = head_of(p, sparse=sparse), torch.from_numpy(p.labels)
    kind, options = getattr(torch.optim, name.split()[0]), (WITH_SPARSE | WITH_DENSE)[name]
    optimizer, losses = kind(head.parameters(), **options), []
    for _ in range(40):
        optimizer.zero_grad()
        loss = head(torch.from_numpy(p.X), y).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", [name for name in WITH_DENSE if " " not in name])
def test_other_optimizers_say_that_they_take_no_sparse_gradient(name):
    head = HSoftmax(20, 4)
    head(torch.ones(3, 4), torch.tensor([1, 2, 3])).loss.backward()
    with pytest.raises(RuntimeError, match="sparse"):
        getattr(torch.optim, name)(head.parameters()).step()


OURS = {
    "SGD": lambda: cso.SGD(0.5),
    "Adagrad": lambda: cso.Adagrad(0.3),
    "Adam": lambda: cso.Adam(0.1),
}


@pytest.mark.parametrize("name", OURS)
def test_an_optimizer_of_ours_steps_in_the_backward_pass(name):
    p = make_batch(BUILDERS["huffman"](20), N=30, dtype="float32")
    head, x = head_of(p, optimizer=OURS[name]()), torch.from_numpy(p.X).requires_grad_()
    W, b, optimizer = p.W.copy(), p.b.copy(), OURS[name]()
    assert not any(parameter.requires_grad for parameter in head.parameters())
    for _ in range(5):
        x.grad = None
        head(x, torch.from_numpy(p.labels)).loss.backward()
        upstream = np.full(30, 1 / 30, "f")
        step = cso.hsoftmax_update(p.X, W, b, p.labels, p.h, optimizer, grad_output=upstream)
        assert (x.grad.numpy() == step.X).all()
        assert (head.weight.numpy() == W).all()
        assert (head.bias.numpy() == b).all()
    head.eval()(x, torch.from_numpy(p.labels)).loss.backward()
    assert (head.weight.numpy() == W).all()


def test_a_step_in_the_backward_pass_is_seen_by_pending_ones():
    head = HSoftmax(20, 4, optimizer=cso.SGD(0.1))
    x, y = torch.ones(3, 4, requires_grad=True), torch.tensor([1, 2, 3])
    first, second = head(x, y).loss, head(x, y).loss
    first.backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second.backward()
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        torch.autograd.grad(head(x, y).loss, x, create_graph=True)


def test_changed_weights_are_noticed_between_the_passes():
    head, x = HSoftmax(20, 4), torch.ones(3, 4, requires_grad=True)
    loss = head(x, torch.tensor([1, 2, 3])).loss
    with torch.no_grad():
        head.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---- edges


def test_ignored_targets_have_no_loss_and_no_gradient():
    p = make_batch(BUILDERS["huffman"](20), N=9)
    head, y = head_of(p), torch.from_numpy(p.labels.copy())
    y[[1, 4]] = -100
    x = torch.from_numpy(p.X).requires_grad_()
    output, loss = head(x, y)
    loss.backward()
    kept = [0, 2, 3, 5, 6, 7, 8]
    alone = torch.from_numpy(p.X[kept]).requires_grad_()
    expected = head_of(p)(alone, y[kept])
    expected.loss.backward()
    assert abs(loss.item() - expected.loss.item()) <= p.tolerance
    assert (output[[1, 4]] == 0).all()
    assert (x.grad[[1, 4]] == 0).all()
    assert (x.grad[kept] - alone.grad).abs().max() <= p.gradient_tolerance()


def test_batches_of_any_shape_without_rows_and_of_one_class():
    head, y = HSoftmax(20, 4), torch.tensor(3)
    x = torch.randn(2, 3, 4, requires_grad=True)
    output, loss = head(x, torch.arange(6).view(2, 3))
    assert output.shape == (2, 3)
    loss.backward()
    assert x.grad.shape == (2, 3, 4)
    assert head(torch.ones(4), y).output.shape == ()
    assert head.predict(torch.ones(4)).shape == ()
    empty = head(torch.ones(0, 4), torch.ones(0, dtype=torch.int64))
    assert empty.loss.isnan()  # as of every loss of torch
    empty.loss.backward()
    single = HSoftmax(1, 4)
    single(torch.ones(2, 4), torch.zeros(2, dtype=torch.int64)).loss.backward()
    assert single.log_prob(torch.ones(2, 4)).tolist() == [[0], [0]]


def test_a_view_of_the_weights_has_a_dense_gradient():
    p = make_batch(BUILDERS["huffman"](20))
    x, W, b, y = tensors(p)
    hsoftmax(x, W[:], b, y, p.h).sum().backward()
    assert not W.grad.is_sparse
    assert (W.grad.numpy() == cso.hsoftmax_gradient(*p, sparse=False).W).all()


def test_low_precision_input_is_cast_under_autocast_and_without():
    head, x = HSoftmax(20, 4), torch.randn(3, 4, requires_grad=True)
    y, encoder = torch.tensor([1, 2, 3]), torch.nn.Linear(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(encoder(x), y).loss
    assert loss.dtype is torch.float32
    loss.backward()
    half = torch.ones(3, 4, dtype=torch.float16, requires_grad=True)
    head(half, y).loss.backward()
    assert half.grad.dtype is torch.float16


def test_clipping_needs_dense_gradients_or_their_values():
    head = HSoftmax(20, 4)
    head(torch.ones(3, 4), torch.tensor([1, 2, 3])).loss.backward()
    with pytest.raises(NotImplementedError):
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1e-3)
    gradients = [p.grad for p in head.parameters()]
    norm = torch.stack([g.coalesce().values().norm() for g in gradients]).norm()
    for g in gradients:
        g.mul_(1e-3 / norm)
    clipped = torch.stack([g.coalesce().values().norm() for g in gradients]).norm()
    assert abs(clipped - 1e-3) <= 1e-3 * 8 * torch.finfo(torch.float32).eps


# ---- rejections

ERRORS = {
    "weight must be float32 or float64": lambda h: h.bfloat16()(
        torch.ones(1, 4), torch.ones(1).int()
    ),
    "x must be a torch.Tensor": lambda h: h([[1.0] * 4], torch.tensor([1])),
    r"x must have shape \(..., 4\), got \(1, 5\)": lambda h: h(torch.ones(1, 5), torch.tensor([1])),
    "x must have a floating dtype, got torch.int64": lambda h: h(
        torch.ones(1, 4).long(), torch.tensor([1])
    ),
    "target must have dtype int32 or int64, got torch.float32": lambda h: h(
        torch.ones(1, 4), torch.ones(1)
    ),
    r"target must have shape \(2,\), got \(1,\)": lambda h: h(torch.ones(2, 4), torch.tensor([1])),
    "x must be on the device of weight, cpu, got meta": lambda h: h(
        torch.ones(1, 4, device="meta"), torch.tensor([1])
    ),
    "target must be on the device of x, cpu, got meta": lambda h: h(
        torch.ones(1, 4), torch.ones(1, dtype=torch.int64, device="meta")
    ),
    r"labels must be in \[0, 20\), got 20": lambda h: h(torch.ones(1, 4), torch.tensor([20])),
    "X must be finite": lambda h: h(torch.full((1, 4), torch.nan), torch.tensor([1])),
    "k must be at least 1": lambda h: h.topk(torch.ones(1, 4), 0),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_dtype_device_and_shape(message):
    with pytest.raises((ValueError, TypeError), match=message):
        ERRORS[message](HSoftmax(20, 4))


def test_weights_that_do_not_fit_are_refused():
    h, x, y = Hierarchy.balanced(8), torch.ones(1, 2), torch.tensor([1])
    with pytest.raises(ValueError, match=r"W must have shape \(7, D\), got \(8, 2\)"):
        hsoftmax(x, torch.ones(8, 2), None, y, h)
    with pytest.raises(ValueError, match=r"b must have shape \(7,\)"):
        hsoftmax(x, torch.ones(7, 2), torch.ones(8), y, h)
    with pytest.raises(TypeError, match="b must have the dtype and the device of W"):
        hsoftmax(x, torch.ones(7, 2), torch.ones(7).double(), y, h)
    with pytest.raises(ValueError, match="independent"):
        HSoftmax(h.independent(), 2)
    with pytest.raises(TypeError, match="optimizer must be SGD, Adagrad or Adam"):
        HSoftmax(h, 2, optimizer=torch.optim.SGD)


# ---- state


def test_a_state_dict_holds_the_tree_and_refuses_that_of_another(tmp_path):
    head = HSoftmax([8, 4, 2, 1], 3)
    torch.save(head.state_dict(), tmp_path / "head.pt")
    state = torch.load(tmp_path / "head.pt", weights_only=True)
    same, other = HSoftmax([8, 4, 2, 1], 3), HSoftmax([1, 2, 4, 8], 3)
    same.load_state_dict(state)
    assert torch.equal(same.weight, head.weight)
    before = other.weight.detach().clone()
    with pytest.raises(RuntimeError, match="must hold the tree of this head"):
        other.load_state_dict(state)
    assert torch.equal(other.weight, before)
    del state["rows._extra_state"]
    with pytest.raises(RuntimeError, match="Missing key"):
        same.load_state_dict(state)


def test_a_tree_of_a_state_dict_may_be_written_to():
    """The core trusts the arrays of a tree, so what is handed out is a copy."""
    head = HSoftmax(20, 4)
    head.state_dict()["rows._extra_state"]["tree"]["path_node"].fill_(10**6)
    assert head.predict(torch.ones(1, 4)).item() < 20


def test_the_state_of_an_optimizer_of_ours_is_saved_too(tmp_path):
    def steps(head, n):
        for _ in range(n):
            head(torch.ones(3, 4), torch.tensor([1, 2, 3])).loss.backward()

    torch.manual_seed(0)
    head = HSoftmax(20, 4, optimizer=cso.Adam(0.1))
    steps(head, 3)
    torch.save(head.state_dict(), tmp_path / "head.pt")
    resumed = HSoftmax(20, 4, optimizer=cso.Adam(0.7))
    resumed.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    steps(head, 2)
    steps(resumed, 2)
    assert torch.equal(head.weight, resumed.weight)


def test_copies_and_pickles_work_on_their_own():
    head = HSoftmax(20, 4)
    x, y = torch.ones(3, 4), torch.tensor([1, 2, 3])
    head(x, y).loss.backward()
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert torch.equal(other(x, y).output, head(x, y).output)
        with torch.no_grad():
            other.weight.add_(1)
        assert not torch.equal(other(x, y).output, head(x, y).output)


def test_weights_come_from_the_generator_of_torch():
    torch.manual_seed(3)
    first = HSoftmax(20, 4).weight
    torch.manual_seed(3)
    assert torch.equal(HSoftmax(20, 4).weight, first)
    assert first.abs().max() <= 0.5
    assert not torch.equal(HSoftmax(20, 4).weight, first)


def test_a_child_process_trains_on_shared_memory(child, tmp_path):
    """As torch.multiprocessing hands modules to workers."""
    context = torch.multiprocessing.get_context("spawn")
    head = HSoftmax(20, 4).share_memory()
    before = head.weight.detach().clone()
    process = context.Process(target=train_once, args=(head,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert not torch.equal(head.weight, before)


def train_once(head):
    head(torch.ones(3, 4), torch.tensor([1, 2, 3])).loss.backward()
    torch.optim.SGD(head.parameters(), lr=1.0).step()


def test_checkpointing_computes_the_same_gradient():
    from torch.utils.checkpoint import checkpoint

    p = make_batch(BUILDERS["huffman"](20))
    for reentrant in (True, False):
        head, x = head_of(p), torch.from_numpy(p.X).requires_grad_()
        checkpoint(
            lambda x, head=head: head(x, torch.from_numpy(p.labels)).loss,
            x,
            use_reentrant=reentrant,
        ).backward()
        assert (x.grad.numpy() == cso.hsoftmax_gradient(*p, grad_output=np.full(7, 1 / 7)).X).all()


# ---- imports


def test_the_package_is_imported_without_torch(child):
    program = "import sys, cython_sparseops; assert 'torch' not in sys.modules"
    child.run(program)
    missing = "import sys; sys.modules['torch'] = None; import cython_sparseops.torch"
    errors = child.run(missing, check=False).stderr
    assert "cython_sparseops.torch needs PyTorch: pip install 'cython-sparseops[torch]'" in errors
