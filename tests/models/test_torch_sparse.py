"""The sparse operators on tensors: the numbers of the functions for arrays, and gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cython_sparseops as cso  # noqa: E402
from cython_sparseops.torch import (  # noqa: E402
    SparseDropoutWithReplacement,
    embedding_bag,
    sparse_normalize_rows_,
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("max_norm", [True, False])
def test_named_rows_are_scaled_in_place(dtype, max_norm):
    torch.manual_seed(0)
    table = torch.nn.Parameter(torch.randn(6, 3, 2).to(dtype))
    before = table.detach().double().clone()
    rows = torch.tensor([[4, 1], [4, 0]])
    norms = sparse_normalize_rows_(table, rows, norm=1.5, max_norm=max_norm)
    exact = before[[0, 1, 4]].flatten(1).norm(dim=1)
    eps = torch.finfo(dtype).eps
    assert norms.dtype is torch.float64
    assert (norms - exact).abs().max() <= 8 * torch.finfo(torch.float32).eps * exact.max()
    scaled = (exact > 1.5) | (not max_norm)
    wanted = before.clone()
    wanted[[0, 1, 4]] *= torch.where(scaled, 1.5 / exact, 1).view(3, 1, 1)
    assert (table.detach().double() - wanted).abs().max() <= 2 * eps * wanted.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_pending_backward_pass_notices_scaled_rows(dtype):
    table = torch.nn.Parameter(torch.full((3, 2), 5.0, dtype=dtype))
    loss = (table * table).sum()
    sparse_normalize_rows_(table, [1])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_cannot_be_scaled_is_refused():
    for table in (torch.ones(3, 2), torch.ones(3, 2).bfloat16()):
        with pytest.raises(ValueError, match="norm must be"):
            sparse_normalize_rows_(table, [1], norm=-1)
        table[1] = torch.nan
        with pytest.raises(ValueError, match="param must be finite"):
            sparse_normalize_rows_(table, [1])
    with pytest.raises(TypeError, match=r"param must be a torch\.Tensor, got ndarray"):
        sparse_normalize_rows_(np.ones((3, 2)), [1])
    with pytest.raises(TypeError, match="param must be a table of floats"):
        sparse_normalize_rows_(torch.ones(3, 2).int(), [1])


def test_dropout_has_the_mask_of_the_function_and_the_seed_of_torch():
    drop, x = SparseDropoutWithReplacement(0.3, 7.0), torch.randn(50, 20)
    torch.manual_seed(5)
    y = drop(x)
    torch.manual_seed(5)
    assert torch.equal(drop(x), y)
    torch.manual_seed(5)
    seed = int(torch.randint(1 << 62, ()))
    exact = cso.sparse_dropout_with_replacement(x.numpy(), 0.3, 7.0, rng=seed)
    assert (y.numpy() == exact).all()
    assert drop.eval()(x) is x


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_passes_gradients_to_what_was_kept_and_to_the_replacement(dtype):
    drop = SparseDropoutWithReplacement(0.4, 2.0, trainable=True)
    x = torch.randn(40, dtype=dtype, requires_grad=True)
    y = drop(x)
    y.sum().backward()
    dropped = y == 2
    assert 0 < dropped.sum() < 40
    assert torch.equal(x.grad == 0, dropped)
    assert drop.replacement.grad == dropped.sum()
    assert list(drop.state_dict()) == ["replacement"]


def test_dropout_takes_csr_tensors():
    x = torch.eye(30).to_sparse_csr()
    y = SparseDropoutWithReplacement(0.5, 3.0)(x)
    assert y.layout is torch.sparse_csr
    assert set(y.values().tolist()) == {1.0, 3.0}
    assert torch.equal(y.col_indices(), x.col_indices())


def test_bad_dropout_is_refused():
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 1\.5"):
        SparseDropoutWithReplacement(1.5)
    with pytest.raises(TypeError, match=r"x must have a floating dtype, got torch\.int64"):
        SparseDropoutWithReplacement(0.5)(torch.arange(3))


@pytest.mark.parametrize("mode", ["mean", "sum"])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_embedding_bag_and_its_gradient_are_those_of_dense_products(mode, sparse, dtype):
    torch.manual_seed(0)
    dense = torch.randn(6, 9, dtype=dtype) * (torch.rand(6, 9) < 0.5)
    dense[2] = 0
    weight = torch.randn(9, 4, dtype=dtype, requires_grad=True)
    upstream = torch.randn(6, 4, dtype=dtype)
    out = embedding_bag(dense.to_sparse_csr(), weight, mode=mode, sparse=sparse)
    out.backward(upstream)
    scaled = dense if mode == "sum" else dense / dense.abs().sum(1, keepdim=True).clamp(min=1e-30)
    bound = 16 * torch.finfo(dtype).eps * (1 + dense.abs().sum() * weight.abs().max())
    assert (out - scaled @ weight).abs().max() <= bound
    assert weight.grad.is_sparse == sparse
    assert (weight.grad.to_dense() - scaled.T @ upstream).abs().max() <= bound


def test_other_layouts_are_refused():
    with pytest.raises(TypeError, match="x must be a sparse CSR tensor"):
        embedding_bag(torch.ones(2, 3), torch.ones(3, 4))
    with pytest.raises(ValueError, match="X must have 4 columns, got 3"):
        embedding_bag(torch.ones(2, 3).to_sparse_csr(), torch.ones(4, 4))
    with pytest.raises(ValueError, match="mode must be"):
        embedding_bag(torch.ones(2, 3).to_sparse_csr(), torch.ones(3, 4), mode="max")
