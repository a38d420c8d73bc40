# Warnings for our own targets.
function(eq_warnings target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-psabi -Wno-missing-field-initializers>)
endfunction()
