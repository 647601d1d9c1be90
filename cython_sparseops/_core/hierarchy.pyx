# Builders give the six arrays of a tree as a tuple of buffers; Tree checks such arrays and holds the view.
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
from cython_sparseops._core.ndarray cimport taken_vector, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_csr, as_const_matrix, as_const_span, index, share_thread_pool

from libcpp.utility cimport move

use_numpy()
share_thread_pool(thread_pool_of_runtime())


cdef class Buffer:
    """One array of a tree that C++ built: a read-only buffer that keeps the tree alive."""
    cdef Built owner
    cdef void* data
    cdef Py_ssize_t[1] shape
    cdef Py_ssize_t[1] strides
    cdef const char* format

    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the arrays of a hierarchy are read-only")
        view.obj = self
        view.buf = self.data
        view.len = self.shape[0] * self.strides[0]
        view.itemsize = self.strides[0]
        view.readonly = 1
        view.ndim = 1
        view.format = <char*>self.format if flags & PyBUF_FORMAT else NULL
        view.shape = self.shape
        view.strides = self.strides
        view.suboffsets = NULL
        view.internal = NULL

    def __releasebuffer__(self, Py_buffer* view):
        pass


cdef class Built:
    cdef CppHierarchy h

    cdef Buffer buffer(self, const void* data, size_t n, Py_ssize_t itemsize, const char* format):
        cdef Buffer b = Buffer()
        b.owner = self
        b.data = <void*>data
        b.shape[0] = <Py_ssize_t>n
        b.strides[0] = itemsize
        b.format = format
        return b

    cdef tuple arrays(self):
        return (
            self.buffer(self.h.path_ptr.data(), self.h.path_ptr.size(), 8, b"q"),
            self.buffer(self.h.path_node.data(), self.h.path_node.size(), 4, b"i"),
            self.buffer(self.h.path_child.data(), self.h.path_child.size(), 4, b"i"),
            self.buffer(self.h.child_ptr.data(), self.h.child_ptr.size(), 8, b"q"),
            self.buffer(self.h.child.data(), self.h.child.size(), 4, b"i"),
            self.buffer(self.h.row_ptr.data(), self.h.row_ptr.size(), 8, b"q"),
        )


cdef class Tree:
    def __init__(self, arrays, bint independent):
        cdef const int64_t[::1] path_ptr = arrays[0]
        cdef const int32_t[::1] path_node = arrays[1]
        cdef const int32_t[::1] path_child = arrays[2]
        cdef const int64_t[::1] child_ptr = arrays[3]
        cdef const int32_t[::1] child = arrays[4]
        cdef const int64_t[::1] row_ptr = arrays[5]
        self.arrays = (path_ptr, path_node, path_child, child_ptr, child, row_ptr)
        cdef HierarchyView view
        view.path_ptr = as_const_span(&path_ptr[0], path_ptr.shape[0])
        view.path_node = as_const_span(&path_node[0], path_node.shape[0])
        view.path_child = as_const_span(&path_child[0], path_child.shape[0])
        view.child_ptr = as_const_span(&child_ptr[0], child_ptr.shape[0])
        view.child = as_const_span(&child[0], child.shape[0])
        view.row_ptr = as_const_span(&row_ptr[0], row_ptr.shape[0])
        view.independent = independent
        with nogil:
            self.index = HierarchyIndex(view)
        self.view = &self.index.view()

    @property
    def depth(self):
        return self.view.depth

    @property
    def independent(self):
        return self.view.independent


def huffman(const double[::1] counts, int arity, max_depth, bint logistic):
    cdef Built built = Built()
    cdef optional[int] limit
    if max_depth is not None:
        limit = <int>max_depth
    with nogil:
        built.h = cpp_huffman(as_const_span(&counts[0], counts.shape[0]), arity, limit, logistic)
    return built.arrays()


def balanced(int64_t n_classes, int arity, bint logistic):
    cdef Built built = Built()
    with nogil:
        built.h = cpp_balanced(n_classes, arity, logistic)
    return built.arrays()


def two_level(int64_t n_classes, const double[::1] counts, int64_t n_groups, bint logistic):
    cdef Built built = Built()
    with nogil:
        built.h = cpp_two_level(n_classes, as_const_span(&counts[0], counts.shape[0]), n_groups, logistic)
    return built.arrays()


def from_parents(const int64_t[::1] parents, const int64_t[::1] classes, const double[::1] counts, int max_children, bint logistic):
    cdef Built built = Built()
    with nogil:
        built.h = cpp_from_parents(as_const_span(&parents[0], parents.shape[0]), as_const_span(&classes[0], classes.shape[0]),
                                   as_const_span(&counts[0], counts.shape[0]), max_children, logistic)
    return built.arrays()


def from_paths(const int64_t[::1] path_ptr, const int64_t[::1] path_node, const int64_t[::1] path_child, const uint8_t[::1] logistic):
    cdef Built built = Built()
    with nogil:
        built.h = cpp_from_paths(as_const_span(&path_ptr[0], path_ptr.shape[0]), as_const_span(&path_node[0], path_node.shape[0]),
                                 as_const_span(&path_child[0], path_child.shape[0]), as_const_span(&logistic[0], logistic.shape[0]))
    return built.arrays()


def optimal_codes(Tree tree not None, const double[::1] counts):
    cdef Built built = Built()
    with nogil:
        built.h = cpp_optimal_codes(tree.view[0], as_const_span(&counts[0], counts.shape[0]))
    return built.arrays()


def prune(Tree tree not None, const double[::1] counts, str by not None, double limit):
    cdef Built built = Built()
    cdef PruneBy what
    if by == "min_count":
        what = PruneBy.min_count
    elif by == "max_nodes":
        what = PruneBy.max_nodes
    elif by == "max_depth":
        what = PruneBy.max_depth
    else:
        raise ValueError(f"by must be min_count, max_nodes or max_depth, got {by}")
    with nogil:
        built.h = cpp_prune(tree.view[0], as_const_span(&counts[0], counts.shape[0]), what, limit)
    return built.arrays()


def split(Tree tree not None, const double[::1] counts, int64_t n_parts):
    """Of each piece its tree, nodes, rows, exits, places and work; and the place of each class."""
    cdef CppPieces made
    cdef Built built
    cdef size_t i
    with nogil:
        made = cpp_split(tree.view[0], as_const_span(&counts[0], counts.shape[0]), n_parts)
    cdef list pieces = []
    for i in range(made.pieces.size()):
        built = Built()
        built.h = move(made.pieces[i].tree)
        pieces.append((built.arrays(), taken_vector(made.pieces[i].nodes), taken_vector(made.pieces[i].rows),
                       taken_vector(made.pieces[i].exits), taken_vector(made.pieces[i].places), made.pieces[i].work))
    return pieces, taken_vector(made.class_place)


cdef ClusterOptions cluster_options(int arity, int64_t leaf, const double[::1] counts, str balance, uint64_t seed) except *:
    cdef ClusterOptions options
    options.arity, options.leaf, options.seed = arity, leaf, seed
    options.counts = as_const_span(&counts[0], counts.shape[0])
    if balance == "auto":
        options.balance = Balance.automatic
    elif balance == "classes":
        options.balance = Balance.classes
    elif balance == "mass":
        options.balance = Balance.mass
    else:
        raise ValueError(f"balance must be auto, classes or mass, got {balance}")
    return options


def cluster(const index[::1] indptr, const index[::1] indices, const float[::1] data, Py_ssize_t cols, int arity, int64_t leaf,
            const double[::1] counts, str balance not None, uint64_t seed, int num_threads):
    cdef Built built = Built()
    cdef ClusterOptions options = cluster_options(arity, leaf, counts, balance, seed)
    with nogil:
        built.h = cpp_cluster(as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], cols), options, num_threads)
    return built.arrays()


def cluster_dense(const float[:, ::1] vectors, int arity, int64_t leaf, const double[::1] counts, str balance not None, uint64_t seed, int num_threads):
    cdef Built built = Built()
    cdef ClusterOptions options = cluster_options(arity, leaf, counts, balance, seed)
    with nogil:
        built.h = cpp_cluster_dense(as_const_matrix(&vectors[0, 0], vectors.shape[0], vectors.shape[1]), options, num_threads)
    return built.arrays()
