from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_matrix, as_const_span, as_matrix, as_span, share_thread_pool, uint8_t, uint16_t

share_thread_pool(thread_pool_of_runtime())


cdef QuantizedKind kind_of(str name) except *:
    if name == "int8":
        return QuantizedKind.int8
    if name == "bfloat16":
        return QuantizedKind.bfloat16
    if name == "float16":
        return QuantizedKind.float16
    raise ValueError(f"kind must be int8, bfloat16 or float16, got {name}")


cdef class Quantized:
    def __cinit__(self, str kind not None, const uint8_t[:, ::1] data, size_t cols, const float[::1] scale):
        self.kept = (data, scale)
        self.view.kind = kind_of(kind)
        self.view.data = &data[0, 0]
        self.view.rows = data.shape[0]
        self.view.cols = cols
        if scale is not None:
            self.view.scale = as_const_span(&scale[0], scale.shape[0])


cdef class HalfRows:
    def __cinit__(self, str kind not None, uint8_t[:, ::1] data, size_t cols):
        self.kept = data
        self.view.kind = kind_of(kind)
        self.view.data = <uint16_t*>&data[0, 0]
        self.view.rows = data.shape[0]
        self.view.cols = cols


def quantize(const float[:, ::1] W, str kind not None, uint8_t[:, ::1] data, float[::1] scale, int num_threads):
    cdef span[float] scales
    cdef QuantizedKind wanted = kind_of(kind)
    if scale is not None:
        scales = as_span(&scale[0], scale.shape[0])
    with nogil:
        cpp_quantize(as_const_matrix(&W[0, 0], W.shape[0], W.shape[1]), wanted, &data[0, 0], scales, num_threads)


def dequantize(Quantized W not None, float[:, ::1] out, int num_threads):
    with nogil:
        cpp_dequantize(W.view, as_matrix(&out[0, 0], out.shape[0], out.shape[1]), num_threads)
