"""scikit-learn classifiers for very many classes: an embedding or sparse weights on a tree."""

try:
    import scipy.sparse  # noqa: F401
    import sklearn.base  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"cython_sparseops.sklearn needs scikit-learn: pip install 'cython-sparseops[sklearn]' "
        f"({error})"
    ) from error

from cython_sparseops._models.topk import TopK
from cython_sparseops._sklearn.averaged import AveragedClassifier
from cython_sparseops._sklearn.choose import ChoiceReport, TriedClassifier, choose
from cython_sparseops._sklearn.hsoftmax import HSoftmaxClassifier
from cython_sparseops._sklearn.label_tree import LabelTreeClassifier
from cython_sparseops._threadpoolctl import register_where_imported

__all__ = [
    "AveragedClassifier",
    "ChoiceReport",
    "HSoftmaxClassifier",
    "LabelTreeClassifier",
    "TopK",
    "TriedClassifier",
    "choose",
]

register_where_imported()  # scikit-learn has imported threadpoolctl
