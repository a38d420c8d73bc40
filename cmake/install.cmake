# `cmake --install` puts the library, its headers, the command and a package for find_package(equiscale) in place.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS equiscale EXPORT equiscale_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET equiscale_app)
  # The command finds cuBLAS and cuDNN where the linker found them (a Python package's folder, say), installed or not; and, with one path for
  # both, CMake has nothing to make room for: its room is an empty path, which the loader reads as the working directory.
  set_target_properties(equiscale_app PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON BUILD_WITH_INSTALL_RPATH ON)
  install(TARGETS equiscale_app RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY core autograd onnx layers models datasets training study DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/equiscale
  FILES_MATCHING PATTERN "*.h" PATTERN "*_cpu.h" EXCLUDE)
install(DIRECTORY recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/equiscale)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/equiscale)
install(EXPORT equiscale_targets NAMESPACE equiscale:: FILE equiscaleTargets.cmake DESTINATION ${package_folder})
configure_package_config_file(cmake/equiscaleConfig.cmake.in ${PROJECT_BINARY_DIR}/equiscaleConfig.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/equiscaleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/equiscaleConfig.cmake ${PROJECT_BINARY_DIR}/equiscaleConfigVersion.cmake cmake/modules/FindLibZip.cmake
  DESTINATION ${package_folder})
