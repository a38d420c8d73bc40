#pragma once
// Typed errors. Each says what went wrong, where (operator, argument and shapes; or file and pixel) and what to try: the command prints
// them as three lines and ends with exit_code(). Control characters, as names of files may have them, become question marks.

#include <stdexcept>
#include <string>

namespace eq {

class Error : public std::runtime_error {
 public:
  Error(std::string what_happened, std::string where, std::string try_this);

  const std::string& what_happened() const { return what_happened_; }
  const std::string& where() const { return where_; }     // may be empty
  const std::string& try_this() const { return try_this_; }  // may be empty
  virtual const char* kind() const { return "error"; }
  virtual int exit_code() const { return 1; }

 private:
  std::string what_happened_, where_, try_this_;
};

// Exit codes: 1 internal, 2 usage, 3 data, 4 numerical, 5 device or memory; the command's 130, stopped by a signal, is no error.
#define EQ_DECLARE_ERROR(Name, Base, text, code)                      \
  class Name : public Base {                                          \
   public:                                                            \
    using Base::Base;                                                 \
    const char* kind() const override { return text; }                \
    int exit_code() const override { return code; }                   \
  };

EQ_DECLARE_ERROR(UsageError, Error, "usage error", 2)          // command line, configuration, API misuse
EQ_DECLARE_ERROR(ShapeError, UsageError, "shape error", 2)     // an operator's argument has the wrong shape
EQ_DECLARE_ERROR(DTypeError, UsageError, "dtype error", 2)     // ... or the wrong element type
EQ_DECLARE_ERROR(AutogradError, UsageError, "autograd error", 2)  // graph freed, value changed in place, ...
EQ_DECLARE_ERROR(DataError, Error, "data error", 3)            // a file's content: picture, label, checkpoint, list
EQ_DECLARE_ERROR(IoError, DataError, "file error", 3)          // the file system: missing, unreadable, full disk
EQ_DECLARE_ERROR(NumericalError, Error, "numerical error", 4)  // NaN or infinity where there must be none
EQ_DECLARE_ERROR(DeviceError, Error, "device error", 5)        // no such device, built without it
EQ_DECLARE_ERROR(OutOfMemoryError, DeviceError, "out of memory", 5)

#undef EQ_DECLARE_ERROR

}  // namespace eq
