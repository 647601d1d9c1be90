// SPDX-License-Identifier: BSD-3-Clause
#include "cpus.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace sparseops::detail {
namespace {

// "max" (version 2) and -1 (version 1) mean no limit; so does a file that is not there.
int cores(std::istream& quota_file, std::istream& period_file) {
    double quota = 0, period = 0;
    if (!(quota_file >> quota && period_file >> period) || !(quota > 0 && period > 0)) return 0;
    return static_cast<int>(std::min(std::ceil(quota / period), 1e6));
}

int limit_v2(const std::string& group) {
    std::ifstream max(group + "/cpu.max");
    return cores(max, max);
}

int limit_v1(const std::string& group) {
    std::ifstream quota(group + "/cpu.cfs_quota_us"), period(group + "/cpu.cfs_period_us");
    return cores(quota, period);
}

void take_least(int& least, int limit) {
    if (limit > 0) least = least > 0 ? std::min(least, limit) : limit;
}

// The least limit of `mount`/path and of every group above it. In a container the path may be the host's and not exist
// here: then the mount itself is what limits.
template <class Limit>
int least_limit(const std::string& mount, std::string path, Limit limit) {
    int least = 0;
    for (;;) {
        take_least(least, limit(mount + path));
        const std::size_t slash = path.find_last_of('/');
        if (slash == std::string::npos) return least;
        path.resize(slash);
    }
}

bool lists_cpu(const std::string& controllers) {
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');) {
        if (name == "cpu") return true;
    }
    return false;
}

}  // namespace

int cgroup_cpus(const std::string& root) {
    const std::string mount = root + "/sys/fs/cgroup";
    int least = 0;
    take_least(least, limit_v2(mount));
    take_least(least, limit_v1(mount + "/cpu"));
    std::ifstream groups(root + "/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {  // number:controllers:path
        const std::size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        if (controllers.empty()) take_least(least, least_limit(mount, path, limit_v2));
        if (lists_cpu(controllers)) take_least(least, least_limit(mount + "/cpu", path, limit_v1));
    }
    return least;
}

int first_number(const char* text) noexcept {
    if (!text) return 0;
    errno = 0;
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    while (*end == ' ') ++end;
    return errno == 0 && end != text && (*end == '\0' || *end == ',') && n > 0 ? static_cast<int>(std::min(n, 1024L)) : 0;
}

}  // namespace sparseops::detail
