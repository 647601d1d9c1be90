from cython_sparseops._core.ndarray cimport PyArray_CheckExact, are_all_ready, do_overlap, is_ready_for, is_writable, use_numpy
from cython_sparseops._core.types cimport int64_t

use_numpy()


def are_ready(X, W, b):
    """Whether these are arrays (N, D), (R, D) and (R,), or None, of float32 or of float64 alone that need no conversion."""
    return are_all_ready(X, W, b)


def is_ready(value):
    """Whether this is a vector of int64 that needs no conversion."""
    return PyArray_CheckExact(value) and is_ready_for[int64_t](value, 1)


def is_ready_in_place(value, int ndim):
    """Whether this is an array of float32 or float64 that can be changed as it is."""
    return is_writable(value) and (is_ready_for[float](value, ndim) or is_ready_for[double](value, ndim))


def overlap(a, b):
    """Whether two arrays, contiguous in any order, have memory in common."""
    return do_overlap(a, b)
