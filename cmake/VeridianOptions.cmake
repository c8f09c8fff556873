# The switches of this build and what the machine has for them.

option(VERIDIAN_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(VERIDIAN_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(VERIDIAN_INSTALL "Write the install rules" ${PROJECT_IS_TOP_LEVEL})
option(VERIDIAN_WERROR "Treat warnings as errors" OFF)
option(VERIDIAN_TEST_LIBUV "Test with libuv, where it is found" ON)
option(VERIDIAN_TEST_GLIB "Test with GLib, where it is found" ON)
option(VERIDIAN_FUZZ "Build the fuzz targets (clang) instead of the tests" OFF)

set(VERIDIAN_WITH_URING AUTO CACHE STRING
  "io_uring for the reactor: ON, AUTO (where liburing is found), OFF")
set_property(CACHE VERIDIAN_WITH_URING PROPERTY STRINGS AUTO ON OFF)
set(VERIDIAN_WITH_NUMA AUTO CACHE STRING
  "Memory from a given NUMA node: ON, AUTO (where libnuma is found), OFF")
set_property(CACHE VERIDIAN_WITH_NUMA PROPERTY STRINGS AUTO ON OFF)
option(VERIDIAN_WITH_JEMALLOC
  "A heap of jemalloc's, in processes that run on it; nothing is linked for that" ON)
set(VERIDIAN_SANITIZE "" CACHE STRING "Sanitizers: address (with undefined), thread, or empty")
set_property(CACHE VERIDIAN_SANITIZE PROPERTY STRINGS "" address thread)

if(NOT VERIDIAN_SANITIZE MATCHES "^(address|thread)?$")
  message(FATAL_ERROR "VERIDIAN_SANITIZE is address, thread or empty, not ${VERIDIAN_SANITIZE}")
endif()

get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(PROJECT_IS_TOP_LEVEL AND NOT multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig)

# Sets VERIDIAN_URING_FOUND, and VERIDIAN_LIBRARIES: what the library links, by plain name so that
# an installed package stays relocatable.
set(VERIDIAN_LIBRARIES "")
set(VERIDIAN_URING_FOUND FALSE)
if(NOT VERIDIAN_WITH_URING STREQUAL "OFF")
  if(PkgConfig_FOUND)
    pkg_check_modules(URING QUIET liburing>=2.3)
  endif()
  if(URING_FOUND)
    set(VERIDIAN_URING_FOUND TRUE)
    list(APPEND VERIDIAN_LIBRARIES uring)
  elseif(VERIDIAN_WITH_URING STREQUAL "ON")
    message(FATAL_ERROR "VERIDIAN_WITH_URING is ON and liburing 2.3 was not found")
  endif()
endif()

set(VERIDIAN_NUMA_FOUND FALSE)
if(NOT VERIDIAN_WITH_NUMA STREQUAL "OFF")
  if(PkgConfig_FOUND)
    pkg_check_modules(NUMA QUIET numa>=2.0)
  endif()
  if(NUMA_FOUND)
    set(VERIDIAN_NUMA_FOUND TRUE)
    list(APPEND VERIDIAN_LIBRARIES numa)
  elseif(VERIDIAN_WITH_NUMA STREQUAL "ON")
    message(FATAL_ERROR "VERIDIAN_WITH_NUMA is ON and libnuma was not found")
  endif()
endif()

set(benchmark_found FALSE)
if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED VERIDIAN_BENCH)
  find_package(benchmark QUIET)
  set(benchmark_found ${benchmark_FOUND})
endif()
option(VERIDIAN_BENCH "Build the benchmarks (C++17, Google Benchmark)" ${benchmark_found})
