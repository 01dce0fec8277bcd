# Runs when a test executable has been linked: writes a file for ctest with one test for every suite in EXECUTABLE,
# <executable>.<suite>. The cases of a suite share one process, for each start loads LibTorch.
execute_process(COMMAND ${EXECUTABLE} --gtest_list_tests
  OUTPUT_VARIABLE listing RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  file(REMOVE ${EXECUTABLE})  # so that the next build tries again
  message(FATAL_ERROR "${EXECUTABLE} --gtest_list_tests: ${status}")
endif()

# A suite's line starts at the left and ends in a dot; its cases stand below, indented.
string(REGEX MATCHALL "(^|\n)[A-Za-z0-9_/]+\\." suites "${listing}")
get_filename_component(name ${EXECUTABLE} NAME)
set(tests "")
foreach(suite IN LISTS suites)
  string(REGEX MATCH "[A-Za-z0-9_/]+" suite "${suite}")
  string(APPEND tests
    "add_test([=[${name}.${suite}]=] [=[${EXECUTABLE}]=] [=[--gtest_filter=${suite}.*]=])\n"
    "set_tests_properties([=[${name}.${suite}]=] PROPERTIES WORKING_DIRECTORY [=[${FOLDER}]=] TIMEOUT 1200\n"
    "  LABELS [=[${LABELS}]=] PROCESSORS ${PROCESSORS} ENVIRONMENT NORMA_CTEST=1 SKIP_RETURN_CODE 77)\n")
endforeach()
file(WRITE ${OUT} "${tests}")
