"""Exact hierarchical softmax and sparse operators for CPUs, on NumPy arrays.

The same bytes for the same seed, whatever the number of threads and the instruction set; exact
probabilities and exact top-k; sparse gradients as plain arrays.
"""

from . import _runtime
from ._devel import get_cmake_dir, get_include
from ._evaluation import (
    CalibrationError,
    FrequencyBucket,
    expected_calibration_error,
    ndcg_at_k,
    precision_at_k,
    propensities,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
    recall_by_frequency,
)
from .bag import embedding_bag
from .dropout import (
    Dropout,
    DropoutGradient,
    sparse_dropout_gradient,
    sparse_dropout_with_replacement,
)
from .dropout_segments import Segments, sparse_dropout_segments
from .hierarchy import Hierarchy, HierarchyReport, PruneReport
from .hierarchy_choose import HierarchyChoice, MeasuredHierarchy
from .hsoftmax import (
    HSoftmaxGradient,
    HSoftmaxLoss,
    estimate_memory,
    hsoftmax,
    hsoftmax_gradient,
    init_weights,
)
from .hsoftmax_proba import hsoftmax_log_proba, hsoftmax_node_log_proba, hsoftmax_sample
from .normalize import (
    Normalized,
    sparse_normalize,
    sparse_normalize_gradient,
    sparse_normalize_rows,
)
from .quantize import QuantizedWeights, QuantizeReport, quantize
from .runtime import get_num_threads, set_num_threads, show_runtime
from .search import SearchResult, hsoftmax_search
from .storage import load_arrays, save_arrays
from .update import SGD, Adagrad, Adam, HSoftmaxUpdate, hsoftmax_update

__version__ = _runtime.version()
_runtime.active_isa()  # a wrong SPARSEOPS_ISA is an error here, not in the first call

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "CalibrationError",
    "Dropout",
    "DropoutGradient",
    "FrequencyBucket",
    "HSoftmaxGradient",
    "HSoftmaxLoss",
    "HSoftmaxUpdate",
    "Hierarchy",
    "HierarchyChoice",
    "HierarchyReport",
    "MeasuredHierarchy",
    "Normalized",
    "PruneReport",
    "QuantizeReport",
    "QuantizedWeights",
    "SearchResult",
    "Segments",
    "embedding_bag",
    "estimate_memory",
    "expected_calibration_error",
    "get_cmake_dir",
    "get_include",
    "get_num_threads",
    "hsoftmax",
    "hsoftmax_gradient",
    "hsoftmax_log_proba",
    "hsoftmax_node_log_proba",
    "hsoftmax_sample",
    "hsoftmax_search",
    "hsoftmax_update",
    "init_weights",
    "load_arrays",
    "ndcg_at_k",
    "precision_at_k",
    "propensities",
    "psndcg_at_k",
    "psp_at_k",
    "quantize",
    "recall_at_k",
    "recall_by_frequency",
    "save_arrays",
    "set_num_threads",
    "show_runtime",
    "sparse_dropout_gradient",
    "sparse_dropout_segments",
    "sparse_dropout_with_replacement",
    "sparse_normalize",
    "sparse_normalize_gradient",
    "sparse_normalize_rows",
]
