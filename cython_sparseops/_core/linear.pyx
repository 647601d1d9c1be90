from cython_sparseops._core.hierarchy cimport Tree
from cython_sparseops._core.ndarray cimport taken_vector, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_csr, as_const_span, index, share_thread_pool

use_numpy()
share_thread_pool(thread_pool_of_runtime())


cdef tuple taken(SparseRows& rows):
    return (taken_vector(rows.row_ptr), taken_vector(rows.feature_ptr), taken_vector(rows.feature), taken_vector(rows.entry_ptr),
            taken_vector(rows.slot), taken_vector(rows.weight), taken_vector(rows.bias), taken_vector(rows.temperature))


cdef class Rows:
    def __cinit__(self, const int64_t[::1] row_ptr, const int64_t[::1] feature_ptr, const int32_t[::1] feature, const int64_t[::1] entry_ptr,
                  const uint16_t[::1] slot, const float[::1] weight, const float[::1] bias, const float[::1] temperature, size_t features):
        self.kept = (row_ptr, feature_ptr, feature, entry_ptr, slot, weight, bias, temperature)
        self.view.row_ptr = as_const_span(&row_ptr[0], row_ptr.shape[0])
        self.view.feature_ptr = as_const_span(&feature_ptr[0], feature_ptr.shape[0])
        self.view.feature = as_const_span(&feature[0], feature.shape[0])
        self.view.entry_ptr = as_const_span(&entry_ptr[0], entry_ptr.shape[0])
        self.view.slot = as_const_span(&slot[0], slot.shape[0])
        self.view.weight = as_const_span(&weight[0], weight.shape[0])
        self.view.bias = as_const_span(&bias[0], bias.shape[0])
        self.view.temperature = as_const_span(&temperature[0], temperature.shape[0])
        self.view.features = features
        with nogil:
            require_sparse_rows(self.view)

    # The view for an operator on this tree: once found to be the same, the rows of nodes are the tree's own array, which C++ sees at a
    # glance. Another tree's are left, and refused there.
    cdef SparseRowsView of(self, Tree tree):
        if self.tree is not tree and same_entries(self.view.row_ptr, <span[const int64_t]>tree.view.row_ptr):
            self.view.row_ptr = <span[const int64_t]>tree.view.row_ptr
            self.tree = tree
        return self.view


def prune(Rows W not None, float threshold):
    cdef SparseRows result
    with nogil:
        result = cpp_prune(W.view, threshold)
    return taken(result)


cdef class Trainer:
    """A trainer (sparseops::LinearTrainer), and the arrays that it reads."""
    cdef unique_ptr[LinearTrainer] trainer
    cdef object kept

    @property
    def tasks(self):
        return self.trainer.get().tasks()

    @property
    def done(self):
        return self.trainer.get().done()

    @property
    def progress(self):
        return self.trainer.get().progress()

    def run_piece(self):
        cdef LinearTrainer* trainer = self.trainer.get()
        with nogil:
            trainer.run(trainer.piece())

    def keep_share(self, size_t share, size_t shares):
        self.trainer.get().keep_share(share, shares)

    def trained(self):
        """What the tasks made, as bytes; the trainer has it no more."""
        cdef vector[uint8_t] packed = self.trainer.get().trained()
        return (<const char*>packed.data())[:packed.size()]

    def take(self, const uint8_t[::1] trained):
        self.trainer.get().take(as_const_span(&trained[0], trained.shape[0]))

    def finish(self):
        cdef LinearTrainer* trainer = self.trainer.get()
        cdef SparseRows result
        with nogil:
            result = trainer.finish()
        self.trainer.reset()
        return taken(result)


cdef LinearLoss loss_of(str name) except *:
    if name == "squared_hinge":
        return LinearLoss.squared_hinge
    if name == "softmax":
        return LinearLoss.softmax
    if name == "logistic":
        return LinearLoss.logistic
    raise ValueError(f"loss must be squared_hinge, softmax or logistic, got {name}")


def trainer_of(Tree tree not None, const index[::1] indptr, const index[::1] indices, const float[::1] data, Py_ssize_t cols,
               const int64_t[::1] label_ptr, const int64_t[::1] label, str loss not None, double C, float threshold, double tol, int max_iter,
               const float[::1] sample_weight, const float[::1] class_weight, double validation, bint clustered, bint class_term, uint64_t seed,
               Rows start, int num_threads):
    cdef Trainer made = Trainer()
    made.kept = (tree, indptr, indices, data, label_ptr, label, sample_weight, class_weight, start)
    cdef LabelsView labels
    labels.ptr = as_const_span(&label_ptr[0], label_ptr.shape[0])
    labels.label = as_const_span(&label[0], label.shape[0])
    cdef LinearOptions options
    options.loss = loss_of(loss)
    options.C, options.threshold, options.tol, options.max_iter = C, threshold, tol, max_iter
    options.sample_weight = as_const_span(&sample_weight[0], sample_weight.shape[0])
    options.class_weight = as_const_span(&class_weight[0], class_weight.shape[0])
    options.validation, options.clustered, options.class_term, options.seed = validation, clustered, class_term, seed
    if start is not None:
        options.start = &start.view
    cdef CsrView[const float, index] X = as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], cols)
    with nogil:
        made.trainer = new_trainer(tree.view[0], X, labels, options, num_threads)
    return made
