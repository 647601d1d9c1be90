from cython_sparseops._core.types cimport MatrixView, span, uint16_t

cdef extern from "<sparseops/weights.hpp>" namespace "sparseops" nogil:
    enum class QuantizedKind "sparseops::QuantizedKind":
        int8
        bfloat16
        float16

    cppclass QuantizedView:
        QuantizedKind kind
        const void* data
        span[const float] scale
        size_t rows
        size_t cols

    cppclass HalfView:
        QuantizedKind kind
        uint16_t* data
        size_t rows
        size_t cols

cdef extern from "<sparseops/quantize.hpp>" namespace "sparseops" nogil:
    void cpp_quantize "sparseops::quantize" (MatrixView[const float] W, QuantizedKind kind, void* data, span[float] scale, int num_threads) except +
    void cpp_dequantize "sparseops::dequantize" (const QuantizedView& W, MatrixView[float] out, int num_threads) except +


cdef class Quantized:
    """Quantised rows (sparseops::QuantizedView), and the arrays that hold them."""
    cdef QuantizedView view
    cdef object kept


cdef class HalfRows:
    """Rows of 16-bit floats that a step changes (sparseops::HalfView), and the array that holds them."""
    cdef HalfView view
    cdef object kept
