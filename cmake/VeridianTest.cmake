# veridian_add_test(<file>): builds and registers one test program.
# veridian_add_fuzzer(<file>): the same for one libFuzzer target, which runs for a bounded time.

if(VERIDIAN_SANITIZE STREQUAL "thread")
  set(VERIDIAN_TEST_SLOWDOWN 6)
elseif(VERIDIAN_SANITIZE STREQUAL "address")
  set(VERIDIAN_TEST_SLOWDOWN 3)
else()
  set(VERIDIAN_TEST_SLOWDOWN 1)
endif()

# Forked children of threaded programs are what many tests are about.
set(VERIDIAN_TEST_ENVIRONMENT
  "TSAN_OPTIONS=die_after_fork=0:halt_on_error=1:second_deadlock_stack=1"
  "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1"
  "UBSAN_OPTIONS=print_stacktrace=1")

function(veridian_add_test source)
  cmake_path(GET source STEM stem)
  cmake_path(GET source PARENT_PATH folder)
  cmake_path(RELATIVE_PATH folder BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  string(REPLACE "/" "_" name "${folder}_${stem}")

  file(GLOB companions CONFIGURE_DEPENDS "${folder}/*.c")
  list(FILTER companions EXCLUDE REGEX "/test_[^/]*\\.c$")
  list(TRANSFORM companions PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")

  add_executable(${name} ${source} ${companions})
  # The test library comes first: its warm-up calls the library.
  target_link_libraries(${name} PRIVATE
    veridian-test-support veridian-ipc-static veridian-internal)

  # "ctest:" lines of the file's comments.
  set(timeout 120)
  set(labels ${folder})
  set(serial OFF)
  file(STRINGS "${source}" wishes REGEX "^[ /*]*ctest:")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
  string(REGEX REPLACE "ctest:|\\*|/" " " wishes "${wishes}")
  separate_arguments(wishes)
  foreach(wish ${wishes})
    if(wish MATCHES "^timeout=([0-9]+)$")
      set(timeout ${CMAKE_MATCH_1})
    elseif(wish MATCHES "^no-(asan|tsan)$")
      list(APPEND labels ${wish})
    elseif(wish STREQUAL "serial")
      set(serial ON)
    else()
      message(FATAL_ERROR "${source}: no such wish in a ctest: line: ${wish}")
    endif()
  endforeach()
  math(EXPR timeout "${timeout} * ${VERIDIAN_TEST_SLOWDOWN}")

  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES
    LABELS "${labels}"
    TIMEOUT ${timeout}
    RUN_SERIAL ${serial}
    ENVIRONMENT "${VERIDIAN_TEST_ENVIRONMENT}")
endfunction()

set(VERIDIAN_FUZZ_SECONDS 10 CACHE STRING "How long each fuzz target runs as a test")

function(veridian_add_fuzzer source)
  cmake_path(GET source STEM name)
  cmake_path(GET source PARENT_PATH folder)
  file(GLOB companions CONFIGURE_DEPENDS "${folder}/*.c")
  list(FILTER companions EXCLUDE REGEX "/fuzz_[^/]*\\.c$")
  add_executable(${name} ${source} ${companions})
  target_link_libraries(${name} PRIVATE veridian-ipc-static veridian-internal)
  target_include_directories(${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)

  # What it finds new goes to the build directory, the seeds stay as they are. Seeds are those of
  # corpus/<name without fuzz_>, if there are any.
  string(REGEX REPLACE "^fuzz_" "" subject "${name}")
  set(found "${CMAKE_CURRENT_BINARY_DIR}/corpus/${subject}")
  file(MAKE_DIRECTORY "${found}")
  set(seeds "${folder}/corpus/${subject}")
  if(NOT IS_DIRECTORY "${seeds}")
    set(seeds "")
  endif()
  math(EXPR timeout "${VERIDIAN_FUZZ_SECONDS} + 60")
  add_test(NAME ${name} COMMAND ${name} -max_total_time=${VERIDIAN_FUZZ_SECONDS} -timeout=10
    -artifact_prefix=${found}- "${found}" ${seeds})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
endfunction()
