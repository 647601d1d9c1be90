"""CSR and CSC matrices without SciPy."""

import numpy as np


class Compressed:
    """The five attributes that the package looks at, and no more."""

    def __init__(self, indptr, indices, data, shape, format="csr"):
        self.indptr, self.indices, self.data = indptr, indices, data
        self.shape, self.format = shape, format

    def but(self, **parts):
        """The same matrix with other parts."""
        return type(self)(**vars(self) | parts)


def compress(D, format="csr", index=np.int32):
    """The entries of D that are not zero."""
    A = D if format == "csr" else D.T
    major, minor = np.nonzero(A)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=len(A)))])
    return Compressed(
        indptr.astype(index),
        minor.astype(index),
        np.ascontiguousarray(A[major, minor]),
        D.shape,
        format,
    )
