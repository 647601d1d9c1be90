"""The PyTorch head on other devices, compiled, and exported."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

import cython_sparseops as cso  # noqa: E402
from cython_sparseops._torch.ops import OPS  # noqa: E402
from cython_sparseops._torch.path import path_log_prob, path_nll  # noqa: E402
from cython_sparseops._torch.tree import TreeTensors  # noqa: E402
from cython_sparseops.torch import HSoftmax  # noqa: E402
from helpers.batches import make_batch  # noqa: E402

Hierarchy = cso.Hierarchy
COUNTS = 1e4 / np.arange(1, 1201)
TREES = {
    "huffman": lambda: Hierarchy.huffman(COUNTS),
    "huffman of four": lambda: Hierarchy.huffman(COUNTS, arity=4),
    "two level": lambda: Hierarchy.two_level(COUNTS),
    "adaptive": lambda: Hierarchy.adaptive(COUNTS),
    "flat": lambda: Hierarchy.balanced(1200, arity=1200),
    "uneven": lambda: Hierarchy.from_parents([5, 5, 5, 6, 6, 6, -1]),
    "one class": lambda: Hierarchy.balanced(1),
}
CPU = torch.device("cpu")


# ---- agrees with the core


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plain_torch_operations_agree_with_the_core(name, sparse, static, dtype):
    h = TREES[name]()
    p = make_batch(h, N=13, D=8, dtype=dtype, scale=3.0)
    p.labels[4] = -100
    x, W, b = (torch.from_numpy(a).requires_grad_() for a in p[:3])
    options = {"sparse": sparse, "static": static}
    nll = path_nll(x, W, b, torch.from_numpy(p.labels), TreeTensors(h, CPU), -100, **options)
    nll.sum().backward()
    g = cso.hsoftmax_gradient(*p, sparse=False, ignore_index=-100)
    assert np.abs(nll.detach().numpy() - g.nll).max() <= p.tolerance
    assert np.abs(x.grad.numpy() - g.X).max() <= p.gradient_tolerance()
    for mine, exact in ((W, g.W), (b, g.b)):
        if h.n_rows:
            assert mine.grad.is_sparse == sparse
            assert np.abs(mine.grad.to_dense().numpy() - exact).max() <= p.gradient_tolerance()


@pytest.mark.parametrize("name", TREES)
def test_plain_log_probabilities_agree_with_the_core(name):
    p = make_batch(TREES[name](), N=5, D=8, scale=3.0)
    x, W, b = (torch.from_numpy(a) for a in p[:3])
    log_p = path_log_prob(x, W, b, TreeTensors(p.h, CPU))
    assert np.abs(log_p.numpy() - cso.hsoftmax_log_proba(*p[:3], p.h)).max() <= p.tolerance


# ---- devices that are not there


def moved(value, device):
    """Tensors, and those in lists and tuples, as empty ones of another device."""
    if isinstance(value, (list, tuple)):
        return type(value)(moved(one, device) for one in value)
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device=device)
    return value


@pytest.mark.parametrize("name", ["huffman", "two level", "adaptive", "flat"])
@pytest.mark.parametrize("device", ["cuda", "xpu", "mps"])
def test_no_tensor_stays_behind_on_the_cpu(name, device):
    """A fake tensor of another device refuses to meet one of the CPU."""
    h = TREES[name]()
    tree = TreeTensors(h, CPU)
    path_log_prob(torch.ones(1, 8), torch.ones(h.n_rows, 8), None, tree)  # makes the levels
    with FakeTensorMode(), torch.no_grad():
        x, y = torch.empty(4, 8, device=device), torch.empty(4, dtype=torch.int64, device=device)
        W, b = torch.empty(h.n_rows, 8, device=device), torch.empty(h.n_rows, device=device)
        for held in (tree, tree.levels):
            for key, value in vars(held).items():
                setattr(held, key, moved(value, device))
        for sparse in (True, False):
            nll = path_nll(x, W, b, y, tree, -100, sparse=sparse)
            assert (nll.device.type, nll.shape) == (device, (4,))
        assert path_log_prob(x, W, b, tree).shape == (4, h.n_classes)


def test_a_head_on_meta_has_shapes_and_comes_back():
    with torch.device("meta"):
        head = HSoftmax(COUNTS, 8)
    assert head.weight.is_meta
    found = head(torch.ones(3, 8, device="meta"), torch.ones(3, dtype=torch.int64, device="meta"))
    assert found.output.is_meta
    assert found.output.shape == (3,)
    head = head.to_empty(device="cpu")
    head.load_state_dict(HSoftmax(COUNTS, 8).state_dict())
    assert head(torch.ones(3, 8), torch.tensor([1, 2, 3])).loss > 0


def test_targets_out_of_range_are_refused_before_a_device_gets_them():
    """On a device an index that is out of range ends the process' use of it."""
    from cython_sparseops._torch.loss import _require_range

    _require_range(torch.tensor([0, -100, 9]), 10, -100)
    with pytest.raises(ValueError, match=r"target must be in \[0, 10\), got 10 at index 1"):
        _require_range(torch.tensor([3, 10]), 10, -100)


# ---- operators, compiled and exported


@pytest.mark.parametrize("bias", [True, False])
def test_the_operators_pass_opcheck(bias):
    p = make_batch(Hierarchy.huffman(COUNTS[:20]), bias=bias)
    x, W, b = (None if a is None else torch.from_numpy(a) for a in p[:3])
    y, tree = torch.from_numpy(p.labels), TreeTensors(p.h, CPU).arrays
    for operator in (OPS.hsoftmax_gradient_v1, OPS.hsoftmax_gradient_dense_v1):
        torch.library.opcheck(operator.default, (torch.ones(7).double(), x, W, b, y, tree, -100))
    torch.library.opcheck(OPS.hsoftmax_search_v1.default, (x, W, b, tree, 3))
    for t in (x, W, b):
        if t is not None:
            t.requires_grad_()
    for sparse in (True, False):
        torch.library.opcheck(OPS.hsoftmax_v1.default, (x, W, b, y, tree, -100, sparse))


class Model(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = torch.nn.Linear(8, 8)
        self.head = HSoftmax(COUNTS, 8, **options)

    def forward(self, x, y):
        return self.head(torch.tanh(self.encoder(x)), y)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_compiled_model_has_no_graph_break_and_the_same_bytes(sparse):
    model, again = Model(sparse=sparse), Model(sparse=sparse)
    torch._dynamo.reset()
    compiled = torch.compile(again, fullgraph=True, backend="aot_eager")
    for n in (16, 16, 7, 33, 1):
        x, y = torch.randn(n, 8), torch.randint(0, 1200, (n,))
        outputs, gradients = [], []
        for each, own in ((model, model), (compiled, again)):
            own.zero_grad()
            output, loss = each(x, y)
            loss.backward()
            outputs.append(output)
            gradients.append([p.grad.to_dense() for p in own.parameters()])
            assert own.head.weight.grad.is_sparse == sparse
        assert torch.equal(*outputs)
        assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_scores_compile_too():
    head, x = HSoftmax(COUNTS, 8), torch.randn(3, 8)
    torch._dynamo.reset()
    top = torch.compile(lambda x: head.topk(x, 3).indices, fullgraph=True, backend="aot_eager")
    assert torch.equal(top(x), head.topk(x, 3).indices)
    scores = torch.compile(head.log_prob, fullgraph=True, backend="aot_eager")
    assert torch.equal(scores(x), head.log_prob(x))


def test_an_exported_program_holds_its_tree(child, tmp_path):
    model, x = Model(sparse=False).requires_grad_(False), torch.randn(5, 8)
    y = torch.tensor([1, 2, 3, 4, 1199])
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(model, (x, y), dynamic_shapes=({0: rows}, {0: rows}))
    torch.export.save(program, tmp_path / "model.pt2")
    found = child.call(run_exported, str(tmp_path / "model.pt2"), x[:4].numpy(), y[:4].numpy())
    assert (found == model(x[:4], y[:4]).output.numpy()).all()


def run_exported(path, x, y):
    import torch

    import cython_sparseops.torch  # noqa: F401  (registers the operators)

    return torch.export.load(path).module()(torch.from_numpy(x), torch.from_numpy(y))[0].numpy()
