"""Exact hierarchical softmax and sparse operators for CPUs, on NumPy arrays.

The same bytes for the same seed, whatever the number of threads and the instruction set; exact
probabilities and exact top-k; sparse gradients as plain arrays.
"""

from ._bag import embedding_bag
from ._cluster import class_centroids
from ._core.runtime import active_isa as _active_isa
from ._core.runtime import version as _version
from ._devel import get_cmake_dir, get_include
from ._dropout import (
    Dropout,
    DropoutGradient,
    Segments,
    sparse_dropout_gradient,
    sparse_dropout_segments,
    sparse_dropout_with_replacement,
)
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
from ._hierarchy import Hierarchy
from ._hierarchy_reports import HierarchyChoice, HierarchyReport, MeasuredHierarchy, PruneReport
from ._hierarchy_split import Piece, SplitPlan
from ._hsoftmax import (
    HSoftmaxGradient,
    HSoftmaxLoss,
    hsoftmax,
    hsoftmax_gradient,
    hsoftmax_log_proba,
    hsoftmax_node_log_proba,
    hsoftmax_sample,
    init_weights,
)
from ._linear import linear_train
from ._models.bag import BagModel, BagTrainer, Progress
from ._models.fasttext import FastTextModel, load_fasttext
from ._models.gensim import GensimModel, load_gensim
from ._models.predictor import Prediction, Predictor
from ._normalize import (
    Normalized,
    sparse_normalize,
    sparse_normalize_gradient,
    sparse_normalize_rows,
)
from ._quantize import QuantizedWeights, QuantizeReport, quantize
from ._runtime import RuntimeInfo, get_num_threads, runtime_info, set_num_threads, show_runtime
from ._search import SearchResult, hsoftmax_search
from ._sparse_weights import SparseWeights
from ._storage import load_arrays, save_arrays
from ._threadpoolctl import register_threadpoolctl
from ._threadpoolctl import register_where_imported as _register_where_imported
from ._update import SGD, Adagrad, Adam, HSoftmaxUpdate, estimate_memory, hsoftmax_update

__version__ = _version()
_active_isa()  # a wrong SPARSEOPS_ISA is an error here, not in the first call
_register_where_imported()

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "BagModel",
    "BagTrainer",
    "CalibrationError",
    "Dropout",
    "DropoutGradient",
    "FastTextModel",
    "FrequencyBucket",
    "GensimModel",
    "HSoftmaxGradient",
    "HSoftmaxLoss",
    "HSoftmaxUpdate",
    "Hierarchy",
    "HierarchyChoice",
    "HierarchyReport",
    "MeasuredHierarchy",
    "Normalized",
    "Piece",
    "Prediction",
    "Predictor",
    "Progress",
    "PruneReport",
    "QuantizeReport",
    "QuantizedWeights",
    "RuntimeInfo",
    "SearchResult",
    "Segments",
    "SparseWeights",
    "SplitPlan",
    "class_centroids",
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
    "linear_train",
    "load_arrays",
    "load_fasttext",
    "load_gensim",
    "ndcg_at_k",
    "precision_at_k",
    "propensities",
    "psndcg_at_k",
    "psp_at_k",
    "quantize",
    "recall_at_k",
    "recall_by_frequency",
    "register_threadpoolctl",
    "runtime_info",
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

for _name in __all__:  # pickles and messages name what is public; the modules behind may move
    globals()[_name].__module__ = __name__
del _name
