"""The PyTorch head in two processes: DDP, and rows that are shared out."""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("torch has no torch.distributed here", allow_module_level=True)

import cython_sparseops as cso  # noqa: E402
from cython_sparseops.torch import HSoftmax, ShardedHSoftmax, hsoftmax  # noqa: E402

COUNTS = 1e4 / np.arange(1, 301)
TREES = {
    "huffman": lambda: cso.Hierarchy.huffman(COUNTS),
    "of sixteen": lambda: cso.Hierarchy.huffman(COUNTS, arity=16),
}
D, SIZES = 12, (20, 33)


def in_two_processes(child, tmp_path, function, *arguments):
    """What function(rank, *arguments) returns in each process of a group of two."""
    results = [tmp_path / f"rank{rank}.pickle" for rank in range(2)]
    processes = [
        child.start(
            joined,
            rank,
            str(tmp_path / "store"),
            function.__name__,
            arguments,
            result=result,
            GLOO_SOCKET_IFNAME="lo",
            OMP_NUM_THREADS="1",
        )
        for rank, result in enumerate(results)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)  # the fixture ends what still runs
        assert process.returncode == 0, errors
    return [pickle.loads(result.read_bytes()) for result in results]


def joined(rank, store, name, arguments):
    options = {"init_method": f"file://{store}", "rank": rank, "world_size": 2}
    torch.distributed.init_process_group("gloo", **options)
    try:
        return globals()[name](rank, *arguments)
    finally:
        torch.distributed.destroy_process_group()


def batch_of(rank, step=0, sizes=SIZES):
    generator = torch.Generator().manual_seed(10 * step + rank)
    x = torch.randn(sizes[rank], D, generator=generator)
    y = torch.randint(0, 300, (sizes[rank],), generator=generator)
    if len(y) > 4:
        y[3] = -100
    return x, y


def whole_head(tree, sparse=True):
    torch.manual_seed(0)
    return HSoftmax(TREES[tree](), D, sparse=sparse)


# ---- DDP


class Model(torch.nn.Module):
    def __init__(self, tree):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = torch.nn.Linear(D, D), HSoftmax(TREES[tree](), D)

    def forward(self, x, y):
        return self.head(self.encoder(x), y).loss


def trained_with_ddp(rank, tree, optimizer):
    model = Model(tree)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    steps = [
        getattr(torch.optim, optimizer)(model.head.parameters(), lr=0.1),
        torch.optim.SGD(model.encoder.parameters(), lr=0.1),
    ]
    for step in range(3):
        model.zero_grad()
        wrapped(*batch_of(rank, step, (16, 16))).backward()
        for one in steps:
            one.step()
    return [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "SparseAdam"])
def test_ddp_takes_the_sparse_gradients_of_a_head(child, tmp_path, optimizer):
    """It does so of parameters of an embedding alone, which is where the head keeps them."""
    found = in_two_processes(child, tmp_path, trained_with_ddp, "huffman", optimizer)
    for one, other in zip(*found, strict=True):
        assert one.tobytes() == other.tobytes()
    model = Model("huffman")
    assert any(
        np.abs(mine - p.detach().numpy()).max() > 0.01
        for mine, p in zip(found[0], model.parameters(), strict=True)
    )


def stepping_head_refuses(rank):
    head = HSoftmax(10, 4, optimizer=cso.SGD(0.1))
    with pytest.raises(RuntimeError, match="take ShardedHSoftmax"):
        head(torch.ones(1, 4), torch.tensor([1]))
    return True


def test_a_head_that_steps_by_itself_refuses_several_processes(child, tmp_path):
    assert in_two_processes(child, tmp_path, stepping_head_refuses) == [True, True]


# ---- rows that are shared out


def sharded_gradients(rank, tree, sizes):
    head = ShardedHSoftmax(TREES[tree](), D, counts=COUNTS)
    head.scatter(whole_head(tree))
    x, y = batch_of(rank, sizes=sizes)
    x.requires_grad_()
    output, loss = head(x, y)
    (loss * 2).backward()
    rows = np.concatenate([head.plan.pieces[i].rows for i in head.pieces])
    dW, db = (p.grad.to_dense().numpy() for p in (head.weight, head.bias))
    gathered = head.gather().weight.detach().numpy()
    loads = sum(head.plan.pieces[i].work for i in head.pieces)
    return output.detach().numpy(), x.grad.numpy(), rows, dW, db, gathered, loads


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("sizes", [(20, 33), (0, 8)])
def test_two_processes_compute_what_one_does(child, tmp_path, tree, sizes):
    found = in_two_processes(child, tmp_path, sharded_gradients, tree, sizes)
    one = whole_head(tree)
    W, b = one.weight.detach().requires_grad_(), one.bias.detach().requires_grad_()
    total, eps = 0, np.finfo("f").eps
    largest = 2 * (one.hierarchy.depth + 16) * eps  # x, w and deltas are a few units at most
    for rank, (output, dx, _, _, _, gathered, load) in enumerate(found):
        x, y = batch_of(rank, sizes=sizes)
        x.requires_grad_()
        nll = hsoftmax(x, W, b, y, one.hierarchy)
        assert (np.abs(-output - nll.detach().numpy()) <= 2 * eps * nll.detach().numpy()).all()
        assert (gathered == one.weight.detach().numpy()).all()
        assert 0.4 < load < 0.6
        if len(y):
            loss = 2 * nll.sum() / (y != -100).sum()
            loss.backward(inputs=[x], retain_graph=True)
            assert np.abs(dx - x.grad.numpy()).max() <= largest
            total = total + loss / 2  # the mean over processes
    total.backward(inputs=[W, b])
    rows = np.concatenate([one[2] for one in found])
    assert sorted(rows) == list(range(len(W)))
    for mine, exact in ((3, W.grad), (4, b.grad)):
        parts = np.concatenate([one[mine] for one in found])
        whole = np.empty_like(parts)
        whole[rows] = parts
        assert np.abs(whole - exact.to_dense().numpy()).max() <= 2 * 33 * largest


def sharded_losses(rank, optimizer):
    torch.manual_seed(rank)
    encoder = torch.nn.Linear(D, D)
    with torch.no_grad():
        for p in encoder.parameters():
            torch.distributed.broadcast(p, 0)
    wrapped = torch.nn.parallel.DistributedDataParallel(encoder)
    head = ShardedHSoftmax(COUNTS, D, counts=COUNTS)
    steps = [
        getattr(torch.optim, optimizer)(head.parameters(), lr=0.3),
        torch.optim.SGD(encoder.parameters(), lr=0.3),
    ]
    x, y = batch_of(rank)
    losses = []
    for _ in range(30):
        for one in steps:
            one.zero_grad()
        loss = head(wrapped(x), y).loss
        loss.backward()
        for one in steps:
            one.step()
        losses.append(loss.item())
    return losses, encoder.weight.detach().numpy()


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "SparseAdam"])
def test_an_encoder_under_ddp_trains_in_front_of_shared_out_rows(child, tmp_path, optimizer):
    (first, one), (second, other) = in_two_processes(child, tmp_path, sharded_losses, optimizer)
    assert first[-1] < 0.8 * first[0]
    assert second[-1] < 0.8 * second[0]
    assert one.tobytes() == other.tobytes()


def test_without_a_group_of_processes_there_is_a_clear_word():
    assert not torch.distributed.is_initialized()
    with pytest.raises(RuntimeError, match=r"torch\.distributed initialized"):
        ShardedHSoftmax(10, 4)


@pytest.fixture
def alone():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_one_process_has_the_losses_of_a_plain_head(alone):
    head = ShardedHSoftmax(COUNTS, D, sparse=False)
    x, y = batch_of(0)
    whole = head.gather()
    exact = whole(x, y).output
    assert (head(x, y).output - exact).abs().max() <= 4e-7 * exact.abs().max()
    head(x, y).loss.backward()
    whole(x, y).loss.backward()
    rows = np.concatenate([head.plan.pieces[i].rows for i in head.pieces])
    for mine, other in ((head.weight, whole.weight), (head.bias, whole.bias)):
        assert not mine.grad.is_sparse
        off = mine.grad - other.grad.to_dense()[torch.from_numpy(rows)]
        assert off.abs().max() <= 20 * (whole.hierarchy.depth + 16) * torch.finfo(x.dtype).eps
    with pytest.raises(ValueError, match="head must have the tree"):
        head.scatter(HSoftmax(10, D))
    loss = head(x.requires_grad_(), y).loss
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, x, create_graph=True)


def test_a_state_dict_is_for_the_same_rows_of_the_same_tree(alone, tmp_path):
    head = ShardedHSoftmax(COUNTS, D)
    torch.save(head.state_dict(), tmp_path / "rank0.pt")
    state = torch.load(tmp_path / "rank0.pt", weights_only=True)
    same = ShardedHSoftmax(COUNTS, D)
    same.load_state_dict(state)
    assert torch.equal(same.weight, head.weight)
    # balanced trees of as many classes, and other shares, have rows of the same shape
    for other in (ShardedHSoftmax(300, D), ShardedHSoftmax(COUNTS, D, counts=COUNTS[::-1])):
        before = other.weight.detach().clone()
        with pytest.raises(RuntimeError, match="must be of the tree, the counts, the number of"):
            other.load_state_dict(state)
        assert torch.equal(other.weight, before)
    del state["place._extra_state"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*place\._extra_state"):
        same.load_state_dict(state)
