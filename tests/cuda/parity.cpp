#include "cuda/parity.h"

#include "autograd/functional.h"
#ifdef EQ_CUDA_SIMULATED
#include "core/allocator.h"
#include "cuda/simulated/run.h"
#endif

namespace eq::test {

std::string why_no_cuda() {
  if constexpr (kBuiltWithCuda) {
    return cuda::device_count() > 0 ? "" : cuda::trouble();
  } else {
    return "this build has no CUDA backend";
  }
}

namespace {

struct Results {
  Tensor y;
  std::vector<Tensor> grads;  // undefined where there is none
};

// The type an argument has when data are of `type`.
DType type_of(const Input& input, DType type) {
  if (!is_floating(input.value.dtype())) return input.value.dtype();
  return input.role == Input::Role::kData ? type : parameter_type(type);
}

Results run(const ParityFunction& fn, const std::vector<Input>& inputs, DType rounded, DType type, Device device) {
#ifdef EQ_CUDA_SIMULATED
  allocator(Device::cuda()).release_cached();  // new memory begins as NaNs, used memory as plausible values
#endif
  std::vector<Tensor> arguments;
  for (const Input& input : inputs) {
    if (!input.value.defined()) {
      arguments.emplace_back();
      continue;
    }
    Tensor value = input.value.to(type_of(input, rounded)).to(type_of(input, type)).to(device);
    if (value.is_same(input.value)) value = value.clone();
    if (is_floating(value.dtype()) && input.role != Input::Role::kConstant) value.set_requires_grad();
    arguments.push_back(value);
  }
  Results results;
  Tensor y = fn(arguments);
  results.y = y.detach().to(Device::cpu());
  if (y.requires_grad()) {
    y.backward(random_tensor(y.shape(), 77).to(rounded).to(y.dtype()).to(device));
    for (const Tensor& argument : arguments) {
      Tensor grad = argument.defined() ? argument.grad() : Tensor();
      results.grads.push_back(grad.defined() ? grad.to(Device::cpu()) : Tensor());
    }
  }
  return results;
}

void compare(const Tensor& actual, const Tensor& expected, double tolerance, const std::string& what) {
  INFO(what);
  REQUIRE(actual.defined() == expected.defined());
  if (!actual.defined()) return;
  if (!is_floating(actual.dtype())) {
    CHECK(bit_equal(actual, expected));
    return;
  }
  check_close(actual.to(DType::kFloat64), expected.to(DType::kFloat64), tolerance);
}

void compare(const Results& actual, const Results& expected, double tolerance) {
  compare(actual.y, expected.y, tolerance, "the value");
  REQUIRE(actual.grads.size() == expected.grads.size());
  for (size_t i = 0; i < actual.grads.size(); ++i) {
    compare(actual.grads[i], expected.grads[i], tolerance, "the gradient of argument " + std::to_string(i));
  }
}

void check_equal_bits(const Results& a, const Results& b, const char* what) {
  INFO(what);
  CHECK(bit_equal(a.y, b.y));
  for (size_t i = 0; i < a.grads.size(); ++i) {
    INFO("the gradient of argument " << i);
    if (a.grads[i].defined()) CHECK(bit_equal(a.grads[i], b.grads[i]));
  }
}

}  // namespace

void check_parity(const std::string& name, const ParityFunction& fn, const std::vector<Input>& inputs, const Accuracy& accuracy) {
  const std::pair<DType, double> types[] = {
      {DType::kFloat64, accuracy.float64}, {DType::kFloat32, accuracy.float32}, {DType::kBFloat16, accuracy.bfloat16}};
  for (const auto& [type, tolerance] : types) {
    if (tolerance == 0) continue;
    INFO(name << ", " << name_of(type));
    const Results expected = run(fn, inputs, type, parameter_type(type), Device::cpu());
    const Results actual = run(fn, inputs, type, type, Device::cuda());
    compare(actual, expected, tolerance);
    check_equal_bits(actual, run(fn, inputs, type, type, Device::cuda()), "repeated");
#ifdef EQ_CUDA_SIMULATED
    for (const auto order : {cuda::simulated::Order::kBackward, cuda::simulated::Order::kShuffled}) {
      cuda::simulated::set_order(order);
      const Results other = run(fn, inputs, type, type, Device::cuda());
      cuda::simulated::set_order(cuda::simulated::Order::kForward);
      check_equal_bits(actual, other, "in another order of threads");
    }
#endif
  }
}

}  // namespace eq::test
