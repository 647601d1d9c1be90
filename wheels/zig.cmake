# CMake toolchain file: the C++ compiler of the `ziglang` package, for any Linux from any Linux.
#   ZIG          the zig program                                    (environment)
#   ZIG_TARGET   x86_64-linux-gnu.2.17, aarch64-linux-musl, …      (environment)
# zig brings libc++, which it links statically, and the libc of the target: no sysroot, no container.
set(CMAKE_SYSTEM_NAME Linux)
string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "$ENV{ZIG_TARGET}")

set(CMAKE_CXX_COMPILER "$ENV{ZIG}" c++)
# The same mode for CMake's own trials: zig builds libc++ (a minute or two) once for each.
set(CMAKE_CXX_FLAGS_INIT "-target $ENV{ZIG_TARGET} -O3 -fPIC -s")
set(CMAKE_TRY_COMPILE_CONFIGURATION Release)
# CMake wants an archiver of one word: so the rules themselves.
set(CMAKE_AR "$ENV{ZIG}" CACHE FILEPATH "")
set(CMAKE_RANLIB "$ENV{ZIG}" CACHE FILEPATH "")
set(CMAKE_CXX_ARCHIVE_CREATE "<CMAKE_AR> ar qc <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_APPEND "<CMAKE_AR> ar q <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "<CMAKE_RANLIB> ranlib <TARGET>")

# The file of the modules exports PyInit_… alone. With glibc it unwinds by the system's libgcc_s, as glibc does itself.
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/exports.map")
get_property(trial GLOBAL PROPERTY IN_TRY_COMPILE)
if("$ENV{ZIG_TARGET}" MATCHES "gnu" AND NOT trial)
  set(unwinder ${CMAKE_BINARY_DIR}/libgcc_s.so.1)
  if(NOT EXISTS ${unwinder})
    execute_process(COMMAND $ENV{ZIG} cc -target $ENV{ZIG_TARGET} -shared -nostdlib -Wl,-soname,libgcc_s.so.1 -o ${unwinder}
      ${CMAKE_CURRENT_LIST_DIR}/libgcc_s.c COMMAND_ERROR_IS_FATAL ANY)
  endif()
  string(APPEND CMAKE_MODULE_LINKER_FLAGS_INIT " ${unwinder}")
endif()

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
