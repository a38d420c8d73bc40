#pragma once
// The operators on a CUDA device against those on the CPU: values and all gradients, in float64, float32 and bfloat16, and the same bits
// when repeated. On a simulated device also the same bits in every order of threads, so that a race shows.

#include <functional>
#include <string>
#include <vector>

#include "catch.h"
#include "core/cuda_device.h"
#include "support.h"

namespace eq::test {

// Ends the test case with a visible line where there is no device.
#define EQ_NEED_CUDA()                                                               \
  if (std::string why = eq::test::why_no_cuda(); !why.empty()) {                     \
    WARN("SKIPPED: no CUDA device: " << why);                                        \
    return;                                                                          \
  }
std::string why_no_cuda();  // empty where there is a device

// An argument of an operator. `value` is float64 and is converted to the type under test (integers stay as they are).
struct Input {
  Tensor value;
  enum class Role { kData, kParameter, kConstant } role = Role::kData;  // a parameter stays float32 beside bfloat16; a constant too,
                                                                        // and has no gradient
};
inline Input parameter(const Tensor& value) { return {value, Input::Role::kParameter}; }
inline Input constant(const Tensor& value) { return {value, Input::Role::kConstant}; }

// Largest difference over the largest value (at least 1). 0: this type is not tried. bfloat16 is compared with float32 arithmetic
// on the CPU over the same rounded arguments: its bound holds one or a few roundings to 8 bits.
struct Accuracy {
  double float64 = 1e-10, float32 = 1e-5, bfloat16 = 2e-2;
};

using ParityFunction = std::function<Tensor(const std::vector<Tensor>&)>;
void check_parity(const std::string& name, const ParityFunction& fn, const std::vector<Input>& inputs, const Accuracy& accuracy = {});

}  // namespace eq::test
