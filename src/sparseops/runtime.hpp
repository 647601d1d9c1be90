// SPDX-License-Identifier: BSD-3-Clause
// Threads and instruction sets of this process.
#pragma once

#include <string>
#include <vector>

#include "types.hpp"  // for its check of the language

namespace sparseops {

// The library's version, "major.minor.patch".
const char* version() noexcept;

// The number of threads used where a call does not name one: one for the whole process, at most 1024. 0 restores the
// default: the smaller of OpenMP's own (OMP_NUM_THREADS, threadpoolctl) and what the control groups of the process allow;
// without OpenMP the library reads OMP_NUM_THREADS itself, or takes the cores of the process. A forked child has one.
// Throws if n < 0.
void set_num_threads(int n);
int get_num_threads() noexcept;

// True if the library was built with OpenMP. Work runs on the library's own threads either way; OpenMP says how many are
// wanted (OMP_NUM_THREADS, threadpoolctl) and whether a call comes from inside a team, which then runs on one thread.
bool has_openmp() noexcept;

// Instruction sets in this build, those that this machine can run, and the one in use. The last throws
// std::invalid_argument if SPARSEOPS_ISA names one that is unknown or that the machine lacks.
std::vector<std::string> compiled_isas();
std::vector<std::string> available_isas();
std::string active_isa();

}  // namespace sparseops
