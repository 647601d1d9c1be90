"""HSoftmax.recluster: what is kept, what is new, and that similar classes come together."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cython_sparseops as cso  # noqa: E402
from cython_sparseops.torch import HSoftmax  # noqa: E402

C, D = 300, 8
COUNTS = 1000 / np.arange(1, C + 1)
TREES = {
    "huffman": lambda: cso.Hierarchy.huffman(COUNTS),
    "two_level": lambda: cso.Hierarchy.two_level(COUNTS),
    "8-ary": lambda: cso.Hierarchy.balanced(C, arity=8),
}
each_tree = pytest.mark.parametrize("tree", TREES)


def random_head(tree, dtype=torch.float64, **options):
    torch.manual_seed(0)
    head = HSoftmax(TREES[tree](), D, dtype=dtype, **options)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    return head


def expansion(head):
    """Log-probabilities at zero, and their slopes by autograd."""
    zero = torch.zeros(D, dtype=head.weight.dtype)
    slopes = torch.func.jacrev(lambda x: head.log_prob(x.unsqueeze(0)).squeeze(0))(zero)
    return head.log_prob(zero.unsqueeze(0)).detach(), slopes.detach()


@each_tree
@pytest.mark.parametrize(("arity", "leaf"), [(2, 2), (4, 8), (16, 128)])  # logistic nodes, softmax
def test_values_and_slopes_at_zero_are_kept(tree, arity, leaf):
    head = random_head(tree)
    log_p, slopes = expansion(head)
    before = head.hierarchy
    assert head.recluster(arity=arity, leaf=leaf) is head
    assert head.hierarchy != before
    assert head.weight.shape == (head.hierarchy.n_rows, D)
    found = expansion(head)
    torch.testing.assert_close(found[0], log_p, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], slopes, rtol=0, atol=1e-12)


@each_tree
def test_float32_keeps_its_own_precision(tree):
    head = random_head(tree, torch.float32)
    log_p = head.log_prob(torch.zeros(1, D))
    found = head.recluster(arity=4, leaf=8).log_prob(torch.zeros(1, D))
    assert head.weight.dtype == head.bias.dtype == torch.float32
    torch.testing.assert_close(found, log_p, rtol=0, atol=1e-5)


def test_without_a_bias_rows_are_found_too():
    head = random_head("huffman", bias=False).recluster(arity=4, leaf=8)
    assert head.bias is None
    assert head.log_prob(torch.ones(1, D).double()).exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_few_classes(n_classes):
    head = HSoftmax(n_classes, D, dtype=torch.float64)
    log_p = expansion(head)[0]
    torch.testing.assert_close(expansion(head.recluster())[0], log_p, rtol=0, atol=1e-12)


def test_classes_that_the_head_finds_similar_share_their_node():
    group = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 8))
    head = HSoftmax(cso.Hierarchy.balanced(32, arity=32), 4)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4)[group])
    h = head.recluster(arity=4, leaf=8).hierarchy
    node = h.path_node[h.path_ptr[1:] - 1]
    assert len(np.unique(node)) == 4
    assert all(len(np.unique(group[node == one])) == 1 for one in np.unique(node))


VECTORS = np.random.default_rng(1).standard_normal((C, 5)).astype(np.float32)


def test_given_vectors_make_the_tree():
    expected = cso.Hierarchy.cluster(VECTORS, arity=4, leaf=8)
    given = [VECTORS, torch.from_numpy(VECTORS).clone().requires_grad_()]
    scipy_sparse = pytest.importorskip("scipy.sparse")
    given.append(scipy_sparse.csr_array(VECTORS))
    for vectors in given:
        head = random_head("huffman", bias=False)
        with torch.no_grad():
            head.weight.zero_()
        assert head.recluster(arity=4, leaf=8, vectors=vectors).hierarchy == expected


@pytest.mark.parametrize(
    "options",
    [
        {"vectors": VECTORS[:-1]},
        {"vectors": VECTORS[0]},
        {"vectors": np.full_like(VECTORS, np.nan)},
        {"arity": 3},
        {"leaf": 0},
        {"rng": "a seed"},
    ],
)
def test_what_is_refused_changes_nothing(options):
    head = random_head("huffman", optimizer=cso.Adagrad(0.1))
    tree, weight, bytes_ = head.hierarchy, head.weight, head.weight.numpy().tobytes()
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(options))} must"):
        head.recluster(**options)
    assert head.hierarchy is tree
    assert head.weight is weight
    assert head.weight.numpy().tobytes() == bytes_


def test_bytes_are_the_same_on_any_number_of_threads():
    def run(threads):
        torch.set_num_threads(threads)
        cso.set_num_threads(threads)
        head = random_head("huffman", torch.float32).recluster(arity=4, leaf=8, rng=3)
        return head.hierarchy, head.weight.detach().numpy().tobytes(), head.bias.tolist()

    before = torch.get_num_threads(), cso.get_num_threads()
    try:
        assert run(1) == run(2) == run(1)
    finally:
        torch.set_num_threads(before[0])
        cso.set_num_threads(before[1])


def test_a_checkpoint_of_it_loads_and_one_of_before_does_not():
    head = random_head("huffman", optimizer=cso.Adagrad(0.1))
    before = head.state_dict()
    x, y = torch.ones(3, D).double(), torch.tensor([0, 1, 2])
    head.recluster(arity=4, leaf=8)
    head(x, y).loss.backward()
    other = HSoftmax(head.hierarchy, D, dtype=torch.float64, optimizer=cso.Adagrad(0.1))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.log_prob(x), head.log_prob(x))
    with pytest.raises(RuntimeError, match="must hold the tree of this head"):
        head.load_state_dict(before)


def train(head, step, steps, seed):
    """Some steps of a task in which inputs tell classes; the mean loss of the last ones."""
    rng, losses = np.random.default_rng(seed), []
    waves = np.random.default_rng(0).standard_normal((C, D)).astype(np.float32)
    for _ in range(steps):
        y = rng.choice(C, 64, p=COUNTS / COUNTS.sum())
        loss = head(torch.from_numpy(waves[y]), torch.from_numpy(y)).loss
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    return np.mean(losses[-5:])


class Nothing:
    """The step of a head that steps in the backward pass."""

    def zero_grad(self):
        pass

    step = zero_grad


@pytest.mark.parametrize("fused", [True, False])
@each_tree
def test_training_goes_on_from_where_it_was_and_not_from_the_start(tree, fused):
    def step_of(head):
        return Nothing() if fused else torch.optim.Adagrad(head.parameters(), lr=0.1)

    options = {"dtype": torch.float32, **({"optimizer": cso.Adagrad(0.1)} if fused else {})}
    torch.manual_seed(0)
    head = HSoftmax(TREES[tree](), D, **options)
    train(head, step_of(head), 200, seed=1)
    moments = head.optimizer.state if fused else None
    head.recluster(arity=4, leaf=16)
    if fused:
        assert moments
        assert head.optimizer.state == {}
        assert head.optimizer.step_count == 0
    assert head.weight.requires_grad == (not fused)
    options = {"dtype": torch.float32, **({"optimizer": cso.Adagrad(0.1)} if fused else {})}
    fresh = HSoftmax(head.hierarchy, D, **options)
    assert train(head, step_of(head), 10, seed=2) < 0.8 * train(fresh, step_of(fresh), 10, seed=2)
