// SPDX-License-Identifier: BSD-3-Clause
#include "mapped.hpp"

#include <cerrno>
#include <cstdint>
#include <limits>
#include <system_error>

#if defined(_WIN32)
#include <fstream>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace sparseops::detail {
namespace {

[[noreturn]] void refuse_file(int error, const std::filesystem::path& path) {
    throw std::system_error(error, std::generic_category(), path.string());
}

}  // namespace

#if defined(_WIN32)

MappedFile map_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) refuse_file(ENOENT, path);
    const auto size = static_cast<std::size_t>(file.tellg());
    std::shared_ptr<std::byte[]> bytes(new std::byte[size]);
    file.seekg(0);
    if (!file.read(reinterpret_cast<char*>(bytes.get()), static_cast<std::streamsize>(size))) refuse_file(EIO, path);
    return {{bytes.get(), size}, bytes};
}

#else

MappedFile map_file(const std::filesystem::path& path) {
    struct Descriptor {
        int number;
        ~Descriptor() { ::close(number); }
    };
    const int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would wait for a writer
    if (number < 0) refuse_file(errno, path);
    const Descriptor file{number};
    struct stat facts{};
    if (::fstat(number, &facts) != 0) refuse_file(errno, path);
    if (S_ISDIR(facts.st_mode)) refuse_file(EISDIR, path);
    if (!S_ISREG(facts.st_mode)) refuse_file(EINVAL, path);  // its size says nothing
    if (facts.st_size == 0) return {};
    if (static_cast<std::uintmax_t>(facts.st_size) > std::numeric_limits<std::size_t>::max()) refuse_file(EFBIG, path);
    const auto size = static_cast<std::size_t>(facts.st_size);
    void* const start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, number, 0);
    if (start == MAP_FAILED) refuse_file(errno, path);
    return {{static_cast<const std::byte*>(start), size},
            std::shared_ptr<const void>(start, [size](void* mapped) { ::munmap(mapped, size); })};
}

#endif

}  // namespace sparseops::detail
