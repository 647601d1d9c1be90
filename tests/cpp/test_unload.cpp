// SPDX-License-Identifier: BSD-3-Clause
// A program closes a shared library that holds the core while its workers sleep there.
#include <dlfcn.h>

#include <chrono>
#include <thread>

#include "check.hpp"

int main(int argc, char** argv) {
    using sparseops_test::check;
    void* plugin = check(argc == 2, "the plugin should be named") ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
    auto* run = plugin ? reinterpret_cast<bool (*)()>(dlsym(plugin, "run_in_plugin")) : nullptr;
    if (check(run, "the plugin should load")) {
        check(run(), "a worker should take part");
        check(dlclose(plugin) == 0, "the plugin should close");
        std::this_thread::sleep_for(std::chrono::milliseconds(50));  // a worker that spins without its code ends the process here
    }
    return sparseops_test::finish("unload");
}
