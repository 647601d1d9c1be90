"""What the `top_k` of every classifier returns."""

from typing import NamedTuple

from cython_sparseops._arrays import Array


class TopK(NamedTuple):
    """What `top_k` of a classifier returns, best first.

    Attributes
    ----------
    labels : ndarray of shape (N, k)
    log_probs : ndarray of shape (N, k)
        In nats.

    Examples
    --------
    >>> from cython_sparseops.sklearn import HSoftmaxClassifier
    >>> HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"]).top_k([[3.0]], k=1).labels
    array([['yes']], dtype='<U3')
    """

    labels: Array
    log_probs: Array
