#include "core/tensor.h"

#include <cmath>
#include <limits>

#include "core/allocator.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

TEST_CASE("tensors of every element type hold what they are given", "[tensor]") {
  CHECK(Tensor::from<float>({1, 2}, {2}).dtype() == DType::kFloat32);
  CHECK(Tensor::from<double>({1, 2}, {2}).dtype() == DType::kFloat64);
  CHECK(Tensor::from<int32_t>({1, 2}, {2}).dtype() == DType::kInt32);
  CHECK(Tensor::from<int64_t>({1, 2}, {2}).dtype() == DType::kInt64);
  CHECK(Tensor::from<uint8_t>({1, 2}, {2}).dtype() == DType::kUInt8);
  const Tensor flags = Tensor::from<bool>({true, false, true}, {3});
  CHECK(flags.dtype() == DType::kBool);
  CHECK(flags.to_vector<bool>() == std::vector<bool>{true, false, true});
  CHECK(Tensor::from<int32_t>({1, -2, 3}, {3, 1}).to_vector<int32_t>() == std::vector<int32_t>{1, -2, 3});
  CHECK(Tensor::full({2, 2}, 7, DType::kUInt8).to_vector<uint8_t>() == std::vector<uint8_t>(4, 7));
  CHECK(Tensor::zeros({3}, DType::kInt64).to_vector<int64_t>() == std::vector<int64_t>(3, 0));
  CHECK(Tensor::scalar(2.5).item() == 2.5);
  CHECK(Tensor::scalar(2.5).rank() == 0);
  CHECK(Tensor::zeros({2, 0, 3}).to_vector<float>().empty());
  CHECK(Tensor::empty_like(flags).dtype() == DType::kBool);
  CHECK(Tensor::zeros({2, 3}, DType::kFloat64).bytes() == 48);
  CHECK_THROWS_AS(Tensor::from<float>({1, 2}, {3}), ShapeError);
}

TEST_CASE("elements are converted between all types", "[tensor]") {
  const Tensor x = Tensor::from<double>({0, 1, 2.75, 200}, {4});
  CHECK(x.to(DType::kFloat32).to_vector<float>() == std::vector<float>{0, 1, 2.75f, 200});
  CHECK(x.to(DType::kInt32).to_vector<int32_t>() == std::vector<int32_t>{0, 1, 2, 200});
  CHECK(x.to(DType::kUInt8).to_vector<uint8_t>() == std::vector<uint8_t>{0, 1, 2, 200});
  CHECK(x.to(DType::kBool).to_vector<bool>() == std::vector<bool>{false, true, true, true});
  CHECK(x.to(DType::kUInt8).to(DType::kFloat64).to_vector<double>() == std::vector<double>{0, 1, 2, 200});
  CHECK(x.to(DType::kFloat64).is_same(x));
  CHECK(x.to(Device::cpu()).is_same(x));
}

TEST_CASE("a value that a type does not have is refused, and in conversions becomes the nearest", "[tensor]") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinite = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(Tensor::full({1}, 300, DType::kUInt8), Catch::Contains("uint8 has no value 300"));
  for (const double value : {256., -1., 1e300, nan, infinite}) CHECK_THROWS_AS(Tensor::zeros({2}, DType::kUInt8).fill_(value), DTypeError);
  CHECK_THROWS_AS(Tensor::scalar(2147483648., DType::kInt32), DTypeError);
  CHECK_THROWS_AS(Tensor::scalar(1e19, DType::kInt64), DTypeError);
  CHECK(Tensor::full({1}, -2147483648., DType::kInt32).item() == -2147483648.);
  CHECK(Tensor::full({1}, 255.9, DType::kUInt8).item() == 255);
  CHECK(std::isnan(Tensor::scalar(nan).item()));

  const Tensor x = Tensor::from<double>({300, -1, nan, infinite, -infinite, 255.9, -0.9, 1e10}, {8});
  const std::vector<uint8_t> bytes = {255, 0, 0, 255, 0, 255, 0, 255};
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    INFO(name_of(type));
    CHECK(x.to(type).to(DType::kUInt8).to_vector<uint8_t>() == bytes);
    CHECK(x.to(type).to(DType::kInt32).to_vector<int32_t>()[7] == 2147483647);
    CHECK(x.to(type).to(DType::kInt64).value_at(4) == -0x1p63);
  }
  const Tensor whole = Tensor::from<int64_t>({int64_t{1} << 40, -5, 44}, {3});
  CHECK(whole.to(DType::kUInt8).to_vector<uint8_t>() == std::vector<uint8_t>{255, 0, 44});
  CHECK(whole.to(DType::kInt32).to_vector<int32_t>() == std::vector<int32_t>{2147483647, -5, 44});
  CHECK(Tensor::from<int32_t>({-1}, {1}).to(DType::kInt64).item() == -1);
}

TEST_CASE("two tensors exchange their memory", "[tensor]") {
  Tensor a = Tensor::full({2}, 1), b = Tensor::full({4}, 2).alias({2}, 1);
  const Tensor handle = a, view = a.alias({2});
  a.swap_memory(b);
  CHECK(handle.value_at(1) == 2);
  CHECK(b.value_at(1) == 1);
  CHECK(view.value_at(1) == 1);
  CHECK(b.memory_id() == view.memory_id());
  Tensor undefined, longer = Tensor::zeros({3}), other = Tensor::zeros({2}, DType::kFloat64);
  CHECK_THROWS_AS(a.swap_memory(undefined), UsageError);
  CHECK_THROWS_AS(undefined.swap_memory(a), UsageError);
  CHECK_THROWS_AS(a.swap_memory(longer), ShapeError);
  CHECK_THROWS_AS(a.swap_memory(other), ShapeError);
  CHECK(handle.value_at(1) == 2);
}

TEST_CASE("handles share, clones do not", "[tensor]") {
  Tensor x = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
  Tensor handle = x, copy = x.clone();
  x.fill_(9);
  CHECK(handle.value_at(3) == 9);
  CHECK(copy.value_at(3) == 4);
  CHECK(handle.is_same(x));
  CHECK_FALSE(copy.is_same(x));
  CHECK(copy.is_unique());
  CHECK_FALSE(x.is_unique());
  handle = Tensor();
  CHECK(x.is_unique());
  const Tensor view = x.alias({4});
  CHECK_FALSE(x.is_unique());
  CHECK_FALSE(Tensor().is_unique());
}

TEST_CASE("an alias is a window on the same memory", "[tensor]") {
  Tensor x = Tensor::from<int32_t>({0, 1, 2, 3, 4, 5}, {2, 3});
  const Tensor row = x.alias({3}, 3);
  CHECK(row.to_vector<int32_t>() == std::vector<int32_t>{3, 4, 5});
  const Tensor last = row.alias({1}, 2);
  CHECK(last.item() == 5);
  last.data<int32_t>()[0] = 50;
  CHECK(x.value_at(5) == 50);
  CHECK(x.alias({0}, 6).numel() == 0);
  CHECK_THROWS_AS(x.alias({4}, 3), ShapeError);
  CHECK_THROWS_AS(x.alias({7}), ShapeError);
  CHECK_THROWS_AS(x.alias({1}, -1), ShapeError);
  CHECK_THROWS_AS(x.alias({1}, 6), ShapeError);
  CHECK_THROWS_AS(x.alias({2}, INT64_MAX), ShapeError);
}

TEST_CASE("memory outlives the tensor that made it", "[tensor]") {
  Tensor view;
  {
    const Tensor x = Tensor::from<float>({1, 2, 3}, {3});
    view = x.alias({2}, 1);
  }
  CHECK(view.to_vector<float>() == std::vector<float>{2, 3});
}

TEST_CASE("in-place changes count versions for all views", "[tensor]") {
  Tensor x = Tensor::zeros({4});
  const Tensor view = x.alias({2}, 2);
  const uint32_t before = view.version();
  x.add_(Tensor::full({4}, 2), 0.5);
  CHECK(x.to_vector<float>() == std::vector<float>(4, 1));
  x.mul_(3);
  x.copy_(Tensor::from<float>({1, 2, 3, 4}, {4}));
  CHECK(view.to_vector<float>() == std::vector<float>{3, 4});
  x.fill_(5);
  CHECK(view.version() == before + 4);
  view.bump_version();
  CHECK(x.version() == before + 5);
  CHECK(x.clone().version() != x.version());
}

TEST_CASE("tensor errors say which tensor", "[tensor]") {
  const Tensor undefined;
  CHECK_FALSE(undefined.defined());
  CHECK_THROWS_AS(undefined.shape(), UsageError);
  CHECK_THROWS_AS(undefined.clone(), UsageError);
  Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_AS(x.data<double>(), DTypeError);
  CHECK_THROWS_WITH(x.data<int32_t>(), Catch::Contains("float32") && Catch::Contains("int32"));
  CHECK_THROWS_WITH(x.item(), Catch::Contains("float32 [2, 3] on cpu"));
  CHECK_THROWS_AS(x.value_at(6), ShapeError);
  CHECK_THROWS_AS(x.value_at(-1), ShapeError);
  CHECK_THROWS_AS(x.copy_(Tensor::zeros({3, 2})), ShapeError);
  CHECK_THROWS_AS(x.add_(Tensor::zeros({2, 3}, DType::kFloat64)), ShapeError);
  Tensor labels = Tensor::zeros({2}, DType::kUInt8);
  CHECK_THROWS_AS(labels.mul_(2), DTypeError);
  CHECK_THROWS_AS(x.size(2), ShapeError);
  if (!kBuiltWithCuda) CHECK_THROWS_AS(x.to(Device{Device::Kind::kCuda, 0}), DeviceError);
}

TEST_CASE("sizes that overflow are refused before anything is allocated", "[tensor]") {
  const uint64_t before = allocator().stats().allocations;
  const int64_t big = int64_t{1} << 31;
  CHECK_THROWS_AS(Tensor::empty({big, big}, DType::kFloat64), ShapeError);
  CHECK_THROWS_AS(Tensor::empty({big, big / 2}, DType::kFloat64), ShapeError);
  CHECK_THROWS_AS(Tensor::empty({big, big, 2}, DType::kUInt8), ShapeError);
  CHECK(allocator().stats().allocations == before);
}

TEST_CASE("tensors describe themselves", "[tensor]") {
  CHECK(describe(Tensor()) == "undefined");
  CHECK(describe(Tensor::zeros({2, 3}, DType::kUInt8)) == "uint8 [2, 3] on cpu");
  CHECK(to_string(Tensor::from<float>({1, 2.5, -3}, {3})) == "float32 [3] on cpu {1, 2.5, -3}");
  CHECK(to_string(Tensor::zeros({5}), 2) == "float32 [5] on cpu {0, 0, ...}");
  CHECK(to_string(Tensor()) == "undefined");
}

TEST_CASE("an element that is not there is named, and a tensor is printed whole up to the limit", "[tensor]") {
  const Tensor x = Tensor::zeros({2, 3});
  for (const int64_t index : {-1, 6}) {
    CHECK_THROWS_WITH(x.value_at(index), Catch::Contains("there is no element " + std::to_string(index) + " in float32 [2, 3]"));
  }
  CHECK(to_string(Tensor::zeros({2}), 2) == "float32 [2] on cpu {0, 0}");
}
