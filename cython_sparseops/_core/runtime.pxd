cdef void* thread_pool_of_runtime() noexcept
