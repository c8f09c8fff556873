# veridian_add_test(<file>): builds and registers one test program. Whatever may take long (the
# "timeout" wish) begins first, so that in the end no CPU waits for it: COST.

if(VERIDIAN_SANITIZE STREQUAL "thread")
  set(VERIDIAN_TEST_SLOWDOWN 6)
elseif(VERIDIAN_SANITIZE STREQUAL "address")
  set(VERIDIAN_TEST_SLOWDOWN 3)
else()
  set(VERIDIAN_TEST_SLOWDOWN 1)
endif()

# Forked children of threaded programs are what many tests are about; and they are many: by default
# ThreadSanitizer sleeps for a second whenever one exits.
set(VERIDIAN_TEST_ENVIRONMENT
  "TSAN_OPTIONS=die_after_fork=0:halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=50"
  "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1"
  "UBSAN_OPTIONS=print_stacktrace=1")

# The reactor sleeps on io_uring where the kernel allows it. What it has a part in runs once more where
# io_uring is refused; but for what refuses it itself, and for what takes long over shared memory alone.
set(VERIDIAN_TEST_TWICE "^(process|hostile|threads|guide|property|unit_object)_")
set(VERIDIAN_TEST_NOT_TWICE "_(fallback|short_streams)$")

# Reads the "ctest:" lines of a test file's comments into ret_labels, ret_timeout, ret_serial.
function(veridian_test_wishes source)
  set(labels "")
  set(timeout 120)
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
  set(ret_labels "${labels}" PARENT_SCOPE)
  set(ret_timeout ${timeout} PARENT_SCOPE)
  set(ret_serial ${serial} PARENT_SCOPE)
endfunction()

function(veridian_add_test source)
  veridian_test_wishes("${source}")
  if(VERIDIAN_SANITIZE STREQUAL "address" AND "no-asan" IN_LIST ret_labels)
    return()
  endif()
  if(VERIDIAN_SANITIZE STREQUAL "thread" AND "no-tsan" IN_LIST ret_labels)
    return()
  endif()

  cmake_path(GET source STEM stem)
  cmake_path(GET source PARENT_PATH folder)
  file(GLOB companions CONFIGURE_DEPENDS "${folder}/*.c")
  list(FILTER companions EXCLUDE REGEX "/test_[^/]*\\.c$")
  cmake_path(RELATIVE_PATH folder BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  string(REPLACE "/" "_" name "${folder}_${stem}")

  add_executable(${name} ${source} ${companions})
  # The test library comes first: its warm-up calls the library.
  target_link_libraries(${name} PRIVATE
    veridian-test-support veridian-ipc-static veridian-internal)
  veridian_register_test(${name} "")
  if(VERIDIAN_URING_FOUND AND NOT VERIDIAN_SANITIZE AND name MATCHES "${VERIDIAN_TEST_TWICE}" AND
     NOT name MATCHES "${VERIDIAN_TEST_NOT_TWICE}")
    list(APPEND ret_labels epoll)
    veridian_register_test(${name} _over_epoll VERIDIAN_TEST_LOOP=epoll)
  endif()
endfunction()

function(veridian_register_test name suffix)
  add_test(NAME ${name}${suffix} COMMAND ${name})
  set_tests_properties(${name}${suffix} PROPERTIES
    LABELS "${folder};${ret_labels}"
    TIMEOUT ${ret_timeout}
    COST ${ret_timeout}
    RUN_SERIAL ${ret_serial}
    ENVIRONMENT "${VERIDIAN_TEST_ENVIRONMENT};${ARGN}")
endfunction()

# veridian_test_on_jemalloc(<library> <test>...): runs them once more, as <test>_on_jemalloc.
function(veridian_test_on_jemalloc library)
  foreach(name ${ARGN})
    get_test_property(${name} TIMEOUT timeout)
    get_test_property(${name} RUN_SERIAL serial)
    add_test(NAME ${name}_on_jemalloc COMMAND ${name})
    set_tests_properties(${name}_on_jemalloc PROPERTIES
      LABELS jemalloc
      TIMEOUT ${timeout}
      COST ${timeout}
      RUN_SERIAL ${serial}
      ENVIRONMENT "${VERIDIAN_TEST_ENVIRONMENT};LD_PRELOAD=${library};VERIDIAN_HEAP=jemalloc")
  endforeach()
endfunction()
