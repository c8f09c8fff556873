# How everything here is compiled: two interface targets that the others link.
#   veridian-warnings   dialect, warnings, sanitizers; for every target of this repository
#   veridian-internal   the same plus src/ as include root; for the library and its unit tests

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG")

set(warnings
  -Wall -Wextra -Wconversion -Wshadow -Wvla -Wundef -Wformat=2
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
  $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>)
if(VERIDIAN_WERROR)
  list(APPEND warnings -Werror)
endif()

set(sanitizers "")
if(VERIDIAN_SANITIZE STREQUAL "address")
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g)
elseif(VERIDIAN_SANITIZE STREQUAL "thread")
  set(sanitizers -fsanitize=thread -fno-omit-frame-pointer -g)
endif()
if(VERIDIAN_FUZZ)
  set(sanitizers -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g)
endif()

add_library(veridian-warnings INTERFACE)
target_compile_definitions(veridian-warnings INTERFACE _GNU_SOURCE)
target_compile_options(veridian-warnings INTERFACE ${warnings} ${sanitizers})
target_link_options(veridian-warnings INTERFACE ${sanitizers})

add_library(veridian-internal INTERFACE)
target_link_libraries(veridian-internal INTERFACE veridian-warnings Threads::Threads)
target_include_directories(veridian-internal INTERFACE
  "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
if(VERIDIAN_URING_FOUND)
  target_compile_definitions(veridian-internal INTERFACE VRD_HAVE_URING=1)
  target_include_directories(veridian-internal SYSTEM INTERFACE ${URING_INCLUDE_DIRS})
endif()
if(VERIDIAN_WITH_JEMALLOC)
  target_compile_definitions(veridian-internal INTERFACE VRD_HAVE_JEMALLOC=1)
endif()
if(VERIDIAN_NUMA_FOUND)
  target_compile_definitions(veridian-internal INTERFACE VRD_HAVE_NUMA=1)
  target_include_directories(veridian-internal SYSTEM INTERFACE ${NUMA_INCLUDE_DIRS})
endif()
if(VERIDIAN_SANITIZE STREQUAL "thread")
  target_compile_definitions(veridian-internal INTERFACE VRD_TSAN=1)
endif()
