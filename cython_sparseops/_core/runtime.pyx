# Threads and instruction sets.
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef extern from "<sparseops/runtime.hpp>" namespace "sparseops" nogil:
    const char* cpp_version "sparseops::version"()
    void cpp_set_num_threads "sparseops::set_num_threads"(int n) except +
    bint cpp_has_openmp "sparseops::has_openmp"()
    vector[string] cpp_compiled_isas "sparseops::compiled_isas"() except +
    vector[string] cpp_available_isas "sparseops::available_isas"() except +
    string cpp_active_isa "sparseops::active_isa"() except +

cdef extern from "runtime.hpp" nogil:
    int cpp_get_num_threads "sparseops_get_num_threads"()

cdef extern from "<sparseops/detail/parallel.hpp>" namespace "sparseops::detail" nogil:
    void* cpp_thread_pool "sparseops::detail::thread_pool"()


cdef void* thread_pool_of_runtime() noexcept:
    return cpp_thread_pool()


def version():
    return cpp_version().decode()


def set_num_threads(int n):
    cpp_set_num_threads(n)


def get_num_threads():
    return cpp_get_num_threads()


def has_openmp():
    return cpp_has_openmp()


def compiled_isas():
    return [name.decode() for name in cpp_compiled_isas()]


def available_isas():
    return [name.decode() for name in cpp_available_isas()]


def active_isa():
    return cpp_active_isa().decode()
