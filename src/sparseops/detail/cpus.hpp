// SPDX-License-Identifier: BSD-3-Clause
// How many threads the surroundings of the process ask for, OpenMP apart.
#pragma once

#include <string>

namespace sparseops::detail {

// Cores that the control groups of this process and those above them grant, rounded up: the least of cpu.max (version 2)
// and cpu.cfs_quota_us / cpu.cfs_period_us (version 1). 0 if none sets a limit. `root` stands before /proc and /sys.
int cgroup_cpus(const std::string& root = "");

// The first number of a list such as OMP_NUM_THREADS; 0 if it is not a positive number. `text` may be null.
int first_number(const char* text) noexcept;

}  // namespace sparseops::detail
