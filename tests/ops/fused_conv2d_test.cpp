#include "core/kernels/fused_conv2d.h"

#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "fused_conv2d_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using cases::FusedConv2dCase;

namespace {

struct Arguments {
  std::vector<Tensor> branches;
  Tensor weight, bias;
  FuseLevelsOptions levels;
  Conv2dOptions conv;

  std::vector<Tensor> inputs() const {
    std::vector<Tensor> all = branches;
    all.push_back(weight);
    if (bias.defined()) all.push_back(bias);
    return all;
  }
};

// Values and constants away from zero mean, as features are. In float32 they are those of float64, rounded.
Arguments make_arguments(const FusedConv2dCase& k, DType dtype, bool leaves = false) {
  Arguments a;
  a.levels = {.out_h = k.out_h, .out_w = k.out_w, .align_corners = k.align_corners};
  uint64_t seed = 60;
  const auto leaf = [&](Tensor t) {
    t = t.to(dtype);
    return leaves ? t.set_requires_grad() : t;
  };
  int64_t channels = 0;
  for (const cases::FuseBranch& b : k.branches) {
    a.branches.push_back(leaf(random_tensor({k.n, b.h, b.w, b.c}, ++seed) + 0.5));
    a.levels.shift.push_back(b.shift == 0 ? Tensor() : random_tensor({b.shift}, ++seed).to(dtype));
    a.levels.scale.push_back(b.scale == 0 ? Tensor() : random_tensor({b.scale}, ++seed).to(dtype));
    channels += b.c;
  }
  a.weight = leaf(random_tensor({k.out, k.kernel_h, k.kernel_w, channels}, ++seed));
  if (k.bias) a.bias = leaf(random_tensor({k.out}, ++seed));
  if (k.border) {
    a.levels.pad_h = k.pad_h;
    a.levels.pad_w = k.pad_w;
    a.levels.border = random_tensor({channels}, ++seed).to(dtype);
  } else {
    a.conv.pad_top = a.conv.pad_bottom = k.pad_h;
    a.conv.pad_left = a.conv.pad_right = k.pad_w;
  }
  return a;
}

Tensor fused(const Arguments& a) { return fused_conv2d(a.branches, a.weight, a.bias, a.levels, a.conv); }
Tensor composed(const Arguments& a) { return conv2d(fuse_levels(a.branches, a.levels), a.weight, a.bias, a.conv); }

// The value, then the gradients of all inputs.
std::vector<Tensor> results(const Arguments& a, Tensor (*apply)(const Arguments&)) {
  const Tensor y = apply(a);
  y.backward(random_tensor(y.shape(), 99).to(y.dtype()));
  std::vector<Tensor> list{y.detach()};
  for (Tensor input : a.inputs()) {
    list.push_back(input.grad());
    input.set_grad({});
  }
  return list;
}

std::vector<Shape> shapes_of(const std::vector<Tensor>& tensors) {
  std::vector<Shape> shapes;
  for (const Tensor& t : tensors) shapes.push_back(t.shape());
  return shapes;
}

// Strips, several images per thread, and blocks of channels.
const FusedConv2dCase kMedium[] = {
    {"strips",
     1,
     37,
     30,
     false,
     40,
     3,
     3,
     1,
     1,
     true,
     true,
     true,
     {{37, 30, 6, 6, 6}, {19, 15, 7, 1, 1}, {10, 8, 5, 0, 0}, {1, 1, 3, 0, 0}}},
    {"site of a pyramid",
     2,
     32,
     32,
     false,
     130,
     3,
     3,
     1,
     1,
     false,
     false,
     true,
     {{32, 32, 24, 1, 1}, {16, 16, 24, 1, 1}, {8, 8, 24, 1, 1}, {4, 4, 24, 1, 1}}},
    {"site of HRNet",
     2,
     24,
     32,
     false,
     50,
     1,
     1,
     0,
     0,
     false,
     true,
     true,
     {{24, 32, 18, 0, 0}, {12, 16, 36, 0, 0}, {6, 8, 72, 0, 0}, {3, 4, 144, 0, 0}}},
};

}  // namespace

TEST_CASE("fused_conv2d: is the convolution of the concatenation, with its gradients", "[fused_conv2d]") {
  const auto check = [](const FusedConv2dCase& k) {
    INFO(k.name);
    const Arguments wide = make_arguments(k, DType::kFloat64, true), narrow = make_arguments(k, DType::kFloat32, true);
    CHECK(commutes_with_resizing(shapes_of(wide.branches), wide.levels, wide.conv) == k.commutes);
    const std::vector<Tensor> expected = results(wide, composed), actual = results(wide, fused), rounded = results(narrow, fused);
    for (size_t i = 0; i < expected.size(); ++i) {
      check_close(actual[i], expected[i], 1e-13);
      check_close(rounded[i], expected[i], 8e-5);  // Winograd's, which the fine branch may get
    }
  };
  for (const FusedConv2dCase& k : cases::kFusedConv2d) check(k);
  for (const FusedConv2dCase& k : kMedium) check(k);
}

TEST_CASE("fused_conv2d: gradients are those of its value", "[fused_conv2d]") {
  const SerialScope serial;  // thousands of tiny calls
  for (const FusedConv2dCase& k : cases::kFusedConv2d) {
    if (k.out > 20) continue;
    INFO(k.name);
    const Arguments a = make_arguments(k, DType::kFloat64, true);
    check_gradients(
        [&](const TensorList& in) {
          const size_t count = a.branches.size();
          return fused_conv2d({in.begin(), in.begin() + int64_t(count)}, in[count], k.bias ? in[count + 1] : Tensor(), a.levels, a.conv);
        },
        a.inputs());
  }
}

TEST_CASE("fused_conv2d: the same bits for any number of threads", "[fused_conv2d]") {
  const int before = num_threads();
  const auto check = [](const FusedConv2dCase& k) {
    INFO(k.name);
    const Arguments a = make_arguments(k, DType::kFloat32, true);
    std::vector<Tensor> both[2];
    for (int threads : {1, 2}) {
      set_num_threads(threads);
      both[threads - 1] = results(a, fused);
    }
    for (size_t i = 0; i < both[0].size(); ++i) CHECK(bit_equal(both[0][i], both[1][i]));
  };
  for (const FusedConv2dCase& k : cases::kFusedConv2d) check(k);
  for (const FusedConv2dCase& k : kMedium) check(k);
  set_num_threads(before);
}

TEST_CASE("fused_conv2d: only wanted gradients are made", "[fused_conv2d]") {
  const FusedConv2dCase& k = cases::kFusedConv2d[10];  // fine branches as one, coarse ones apart
  const std::vector<Tensor> all = results(make_arguments(k, DType::kFloat64, true), fused);
  for (size_t wanted = 0; wanted + 1 < all.size(); ++wanted) {
    Arguments a = make_arguments(k, DType::kFloat64);
    std::vector<Tensor> inputs = a.inputs();
    inputs[wanted].set_requires_grad();
    const std::vector<Tensor> some = results(a, fused);
    for (size_t i = 0; i < inputs.size(); ++i) CHECK(some[i + 1].defined() == (i == wanted));
    CHECK(bit_equal(some[wanted + 1], all[wanted + 1]));
  }
}

TEST_CASE("fused_conv2d: an infinity stays where the resized feature has it", "[fused_conv2d]") {
  const FusedConv2dCase k = {"", 1, 9, 9, true, 1, 1, 1, 0, 0, false, false, true, {{9, 9, 1, 0, 0}, {3, 3, 1, 0, 0}}};
  Arguments a = make_arguments(k, DType::kFloat32);
  a.branches[1].data<float>()[4] = INFINITY;
  const Tensor y = fused(a), expected = composed(a);
  for (int64_t i = 0; i < y.numel(); ++i) CHECK(std::isfinite(y.value_at(i)) == std::isfinite(expected.value_at(i)));
}

TEST_CASE("fused_conv2d: an empty batch is empty and teaches nothing", "[fused_conv2d]") {
  FusedConv2dCase k = cases::kFusedConv2d[4];
  k.n = 0;
  const std::vector<Tensor> list = results(make_arguments(k, DType::kFloat32, true), fused);
  CHECK(list[0].shape() == Shape{0, 7, 9, 18});
  check_close(list[3], Tensor::zeros(list[3].shape()), 0);
}

TEST_CASE("fused_conv2d: a constant changed after the forward pass is noticed", "[fused_conv2d]") {
  for (int which : {0, 1, 2}) {
    Arguments a = make_arguments(cases::kFusedConv2d[4], DType::kFloat64, true);
    const Tensor y = fused(a);
    (which == 0 ? a.levels.shift[0] : which == 1 ? a.levels.scale[1] : a.levels.border).fill_(2);
    CHECK_THROWS_AS(y.backward(Tensor::zeros_like(y)), AutogradError);
  }
}

TEST_CASE("fused_conv2d: what the kernel cannot do is left to the composition", "[fused_conv2d]") {
  const Arguments a = make_arguments(cases::kFusedConv2d[3], DType::kFloat64);
  const std::vector<Shape> shapes = shapes_of(a.branches);
  CHECK(commutes_with_resizing(shapes, a.levels, a.conv));
  const Conv2dOptions others[] = {Conv2dOptions().stride(2), Conv2dOptions().dilation(2), Conv2dOptions().padding(1)};
  for (const Conv2dOptions& conv : others) {
    CHECK_FALSE(commutes_with_resizing(shapes, a.levels, conv));
    Arguments b = a;
    b.conv = conv;
    CHECK(bit_equal(fused(b), composed(b)));
  }
  Arguments depthwise = a;
  depthwise.conv = Conv2dOptions().set_groups(8);
  depthwise.weight = random_tensor({8, 3, 3, 1}, 1);
  depthwise.bias = {};
  CHECK(bit_equal(fused(depthwise), composed(depthwise)));
}

TEST_CASE("fused_conv2d: a border that the levels do not pad with is not used, and a branch may have no channels", "[fused_conv2d]") {
  const Tensor fine = random_tensor({1, 6, 6, 2}, 1).set_requires_grad(), coarse = random_tensor({1, 2, 2, 3}, 2).set_requires_grad();
  const auto compare = [](std::vector<Tensor> branches, Tensor weight, const FuseLevelsOptions& levels) {
    const Conv2dOptions conv = Conv2dOptions().padding(1);
    std::vector<std::vector<Tensor>> sides;
    for (const bool at_once : {true, false}) {
      for (Tensor& t : branches) t.set_grad({});
      weight.set_grad({});
      const Tensor y = at_once ? fused_conv2d(branches, weight, {}, levels, conv) : conv2d(fuse_levels(branches, levels), weight, {}, conv);
      y.backward(random_tensor(y.shape(), 9));
      sides.push_back({y, weight.grad().clone()});
      for (const Tensor& t : branches) sides.back().push_back(t.grad().clone());
    }
    for (size_t i = 0; i < sides[0].size(); ++i) check_close(sides[0][i], sides[1][i], 1e-12);
  };
  FuseLevelsOptions levels{.out_h = 6, .out_w = 6};
  for (const int64_t empty : {0, 1, 2}) {  // which branch; 2: none
    const Tensor first = empty == 0 ? Tensor::zeros({1, 6, 6, 0}, DType::kFloat64).set_requires_grad() : fine;
    const Tensor second = empty == 1 ? Tensor::zeros({1, 2, 2, 0}, DType::kFloat64).set_requires_grad() : coarse;
    const int64_t channels = first.size(3) + second.size(3);
    compare({first, second}, random_tensor({4, 3, 3, channels}, 3).set_requires_grad(), levels);
  }
  levels.border = Tensor::full({5}, 5, DType::kFloat64);
  compare({fine, coarse}, random_tensor({4, 3, 3, 5}, 3).set_requires_grad(), levels);
}

TEST_CASE("fused_conv2d: bad arguments", "[fused_conv2d]") {
  using Catch::Contains;
  const Arguments good = make_arguments(cases::kFusedConv2d[0], DType::kFloat64);
  const auto with = [&](const auto& change) {
    Arguments a = good;
    change(a);
    return fused(a);
  };
  CHECK_THROWS_WITH(with([](Arguments& a) { a.branches.clear(); }), Contains("fused_conv2d") && Contains("no branches"));
  CHECK_THROWS_AS(with([](Arguments& a) { a.branches[1] = a.branches[1].to(DType::kFloat32); }), DTypeError);
  CHECK_THROWS_AS(with([](Arguments& a) { a.levels.scale = {Tensor()}; }), ShapeError);
  CHECK_THROWS_WITH(with([](Arguments& a) { a.weight = Tensor::zeros({5, 3, 3, 9}, DType::kFloat64); }), Contains("[5, 3, 3, 9]"));
  CHECK_THROWS_AS(with([](Arguments& a) { a.weight = a.weight.to(DType::kFloat32); }), DTypeError);
  CHECK_THROWS_WITH(with([](Arguments& a) { a.bias = Tensor::zeros({4}, DType::kFloat64); }), Contains("bias") && Contains("[5]"));
  CHECK_THROWS_AS(with([](Arguments& a) { a.conv.pad_top = -1; }), UsageError);
  CHECK_THROWS_WITH(with([](Arguments& a) {
                      a.weight = Tensor::zeros({5, 13, 3, 8}, DType::kFloat64);
                      a.conv = {};
                    }),
                    Contains("does not fit"));
}
