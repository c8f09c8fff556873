# Install rules: libraries, headers, a pkg-config file and a CMake package, all relocatable.

include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/veridian-ipc")

install(TARGETS veridian-ipc veridian-ipc-static EXPORT veridian-ipc-targets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY include/veridian DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

install(EXPORT veridian-ipc-targets NAMESPACE veridian:: DESTINATION "${package_dir}")
configure_package_config_file(cmake/veridian-ipc-config.cmake.in veridian-ipc-config.cmake
  INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file(veridian-ipc-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/veridian-ipc-config.cmake"
  "${PROJECT_BINARY_DIR}/veridian-ipc-config-version.cmake"
  DESTINATION "${package_dir}")

# The .pc file finds its prefix from where it lies, unless a directory was given as absolute.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
  BASE_DIRECTORY "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" OUTPUT_VARIABLE VERIDIAN_PC_PREFIX)
foreach(directory LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${directory}}")
    set(VERIDIAN_PC_${directory} "${CMAKE_INSTALL_${directory}}")
  else()
    set(VERIDIAN_PC_${directory} "\${prefix}/${CMAKE_INSTALL_${directory}}")
  endif()
endforeach()
set(VERIDIAN_PC_LIBS_PRIVATE "-pthread")
foreach(library ${VERIDIAN_LIBRARIES})
  string(APPEND VERIDIAN_PC_LIBS_PRIVATE " -l${library}")
endforeach()
configure_file(pkgconfig/veridian-ipc.pc.in veridian-ipc.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/veridian-ipc.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
