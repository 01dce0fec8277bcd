# Runs in every build of the program: writes OUT, the source that names the commit of SOURCE, when that has changed.
set(commit unknown)
find_program(git git)
if(git)
  execute_process(COMMAND ${git} -C ${SOURCE} rev-parse --show-cdup
    OUTPUT_VARIABLE up OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status ERROR_QUIET)
  if(status EQUAL 0 AND up STREQUAL "")  # a repository of its own, and not a folder of another one
    execute_process(COMMAND ${git} -C ${SOURCE} describe --always --dirty --exclude=*
      OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status ERROR_QUIET)
    if(status EQUAL 0)
      set(commit ${described})
    endif()
  endif()
endif()

set(source "#include \"version.h\"\n\nstd::string norma::commit_hash() {\n  return \"${commit}\";\n}\n")
set(written "")
if(EXISTS ${OUT})
  file(READ ${OUT} written)
endif()
if(NOT written STREQUAL source)
  file(WRITE ${OUT} "${source}")
endif()
