#include "autograd/functional.h"
#include "cuda/parity.h"
#include "ops/pad2d_cases.h"
#include "ops/shape_cases.h"
#include "ops/windows_cases.h"

using namespace eq;
using namespace eq::test;

namespace {

const Accuracy kExact{1e-300, 1e-300, 1e-300};  // copies

// The same bytes as on the CPU, in a type that the kernels do not compute with.
void check_bytes(const ParityFunction& fn, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> there;
  for (const Tensor& input : inputs) there.push_back(input.to(Device::cuda()));
  CHECK(bit_equal(fn(there).to(Device::cpu()), fn(inputs)));
}

Tensor bytes(const Shape& shape, int64_t factor) {
  Tensor x = Tensor::empty(shape, DType::kUInt8);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<uint8_t>()[i] = uint8_t(factor * i);
  return x;
}

}  // namespace

TEST_CASE("cuda: permute", "[cuda][permute]") {
  EQ_NEED_CUDA();
  std::vector<cases::PermuteCase> all(std::begin(cases::kPermuteCases), std::end(cases::kPermuteCases));
  all.insert(all.end(), {{{64, 32}, {1, 0}},
                         {{2, 33, 65}, {0, 2, 1}},
                         {{3, 17, 5, 40}, {2, 3, 0, 1}},
                         {{2, 3, 4, 16}, {1, 0, 2, 3}},
                         {{20, 3, 33}, {2, 1, 0}},
                         {{2, 6, 7, 64}, {0, 3, 1, 2}},
                         {{7, 1024}, {1, 0}}});
  for (const cases::PermuteCase& c : all) {
    const ParityFunction fn = [&](const std::vector<Tensor>& in) { return permute(in[0], c.axes); };
    check_parity(to_string(c.shape) + " by " + Catch::Detail::stringify(c.axes), fn, {{random_tensor(c.shape, 1)}}, kExact);
    check_bytes(fn, {bytes(c.shape, 7)});
  }
}

TEST_CASE("cuda: expand", "[cuda][expand]") {
  EQ_NEED_CUDA();
  const std::pair<Shape, Shape> shapes[] = {{{3}, {2, 3}},
                                            {{}, {4}},
                                            {{}, {33}},
                                            {{2, 1, 3}, {2, 4, 3}},
                                            {{2, 3, 1}, {2, 3, 5}},
                                            {{1, 3}, {1, 3}},
                                            {{1, 3}, {0, 3}},
                                            {{2, 1, 16}, {2, 9, 16}},
                                            {{2, 1, 1, 24}, {2, 3, 5, 24}},
                                            {{3, 1, 4, 1}, {3, 2, 4, 16}}};
  for (const auto& [from, to] : shapes) {
    const ParityFunction fn = [shape = to](const std::vector<Tensor>& in) { return expand(in[0], shape); };
    // The gradient is a sum, rounded once.
    check_parity(to_string(from) + " to " + to_string(to), fn, {{random_tensor(from, 1)}}, {.bfloat16 = 4e-3});
    check_bytes(fn, {bytes(from, 5)});
  }
}

TEST_CASE("cuda: concat", "[cuda][concat]") {
  EQ_NEED_CUDA();
  for (const Shape& base : {Shape{2, 3, 4, 5}, Shape{2, 3, 4, 16}, Shape{3, 2, 2, 10}}) {
    for (int axis = 0; axis < 4; ++axis) {
      std::vector<Input> inputs;
      std::vector<Tensor> small;
      for (const int64_t extent : {2, 1, 0, 4, 8}) {
        Shape shape = base;
        shape.set(axis, extent);
        inputs.push_back({random_tensor(shape, 50 + uint64_t(extent))});
        small.push_back(bytes(shape, extent + 3));
      }
      const ParityFunction fn = [axis](const std::vector<Tensor>& in) { return concat(in, axis); };
      check_parity(to_string(base) + " along " + std::to_string(axis), fn, inputs, kExact);
      check_bytes(fn, small);
    }
  }
}

TEST_CASE("cuda: split", "[cuda][split]") {
  EQ_NEED_CUDA();
  for (const Shape& base : {Shape{2, 3, 4, 5}, Shape{2, 3, 4, 16}}) {
    for (int axis = 0; axis < 4; ++axis) {
      Shape shape = base;
      shape.set(axis, 15);
      const ParityFunction turned = [axis](const std::vector<Tensor>& in) {  // one part is not used
        const std::vector<Tensor> parts = split(in[0], {2, 1, 0, 4, 8}, axis);
        return concat({parts[4], parts[2], parts[0], parts[3]}, axis);
      };
      check_parity(to_string(shape) + " along " + std::to_string(axis), turned, {{random_tensor(shape, 1)}}, kExact);
      check_bytes(turned, {bytes(shape, 3)});
    }
  }
}

TEST_CASE("cuda: slice", "[cuda][slice]") {
  EQ_NEED_CUDA();
  for (const Shape& base : {Shape{2, 3, 4, 3}, Shape{3, 8, 8, 32}}) {
    for (int axis = 0; axis < 4; ++axis) {
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 5}, {0, 2}, {1, 4}, {4, 5}, {3, 3}}) {
        Shape shape = base;
        shape.set(axis, shape[axis] > 3 && axis == 3 ? shape[axis] : 5);
        const ParityFunction fn = [axis, b = begin, e = end](const std::vector<Tensor>& in) {
          return slice(in[0], axis, b, e);
        };
        check_parity(to_string(shape) + " along " + std::to_string(axis), fn, {{random_tensor(shape, 1)}}, kExact);
        check_bytes(fn, {bytes(shape, 3)});
      }
    }
  }
  check_parity(
      "aligned channels", [](const std::vector<Tensor>& in) { return slice(in[0], 1, 16, 48); },
      {{random_tensor({9, 64}, 2)}}, kExact);
}

TEST_CASE("cuda: pad2d", "[cuda][pad2d]") {
  EQ_NEED_CUDA();
  for (const cases::Pad2dCase& k : cases::kPad2d) {
    for (const int64_t channels : {k.c, int64_t{8}}) {
      check_parity(
          std::to_string(k.h) + " x " + std::to_string(k.w) + " x " + std::to_string(channels),
          [&](const std::vector<Tensor>& in) { return pad2d(in[0], k.top, k.bottom, k.left, k.right, k.value); },
          {{random_tensor({k.n, k.h, k.w, channels}, 1)}}, kExact);
    }
  }
}

TEST_CASE("cuda: windows", "[cuda][windows]") {
  EQ_NEED_CUDA();
  for (const cases::WindowCase& k : cases::kWindows) {
    for (const int64_t channels : {k.c, int64_t{8}}) {
      const Shape image{k.n, k.h, k.w, channels};
      const std::string name = to_string(image) + ", windows of " + std::to_string(k.size) + " shifted by " + std::to_string(k.shift);
      const ParityFunction split = [&](const std::vector<Tensor>& in) { return split_windows(in[0], k.size, k.shift); };
      const ParityFunction join = [&](const std::vector<Tensor>& in) { return join_windows(in[0], image, k.size, k.shift); };
      check_parity("split " + name, split, {{random_tensor(image, 1)}}, kExact);
      check_parity("join " + name, join, {{split_windows(random_tensor(image, 1), k.size, k.shift)}}, kExact);
      check_bytes(split, {bytes(image, 5)});
    }
  }
}
