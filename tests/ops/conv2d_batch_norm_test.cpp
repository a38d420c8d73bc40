// conv2d_batch_norm and fused_conv2d_batch_norm are by definition the operators in them, one after the other: to the bit.
#include "core/kernels/conv2d_batch_norm.h"

#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "conv2d_cases.h"
#include "core/allocator.h"
#include "core/errors.h"
#include "core/parallel.h"
#include "fused_conv2d_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::cases;
using namespace eq::test;

namespace {

// Beside the small cases: every kernel in float32 (direct in several chunks and blocks, Winograd's with few and many tiles) and its cuts.
const Conv2dCase kMore[] = {
    {"several input blocks", 1, 9, 8, 300, 40, 3, 3, conv2d_options(2, 1), true},
    {"several input blocks, 1x1", 3, 9, 8, 2600, 45, 1, 1, conv2d_options(1, 0), true},
    {"long 1x1", 5, 31, 33, 18, 11, 1, 1, conv2d_options(1, 0), true},
    {"wide rows", 1, 3, 530, 5, 6, 5, 5, conv2d_options(1, 2), true},
    {"few tiles", 2, 7, 6, 75, 100, 3, 3, conv2d_options(1, 1), true},
    {"many tiles", 2, 41, 37, 64, 72, 3, 3, conv2d_options(1, 1)},
    {"many tiles, several chunks", 1, 30, 45, 330, 83, 3, 3, conv2d_options(1, 1), true},
    {"dilated tiles", 2, 29, 26, 40, 33, 3, 3, conv2d_options(1, 3, 3), true},
    {"depthwise strips", 2, 40, 70, 20, 20, 3, 3, conv2d_options(1, 1, 1, 20), true},
};

InferenceNorm make_norm(int64_t channels, DType dtype, bool affine, bool relu) {
  InferenceNorm norm;
  norm.running_mean = random_tensor({channels}, 21).to(dtype);
  norm.running_var = (square(random_tensor({channels}, 22)) + 0.1).to(dtype);
  if (affine) {
    norm.gamma = random_tensor({channels}, 23).to(dtype);
    norm.beta = random_tensor({channels}, 24).to(dtype);
  }
  norm.eps = 1e-3;
  norm.relu = relu;
  return norm;
}

Tensor one_after_the_other(const Tensor& y, InferenceNorm norm, const Tensor& residual) {
  Tensor normed =
      batch_norm(y, norm.gamma, norm.beta, norm.running_mean, norm.running_var, {.eps = norm.eps, .training = false, .relu = false});
  if (residual.defined()) normed = add(normed, residual);
  return norm.relu ? relu(normed) : normed;
}

template <class Fn>
void for_each_variant(const Fn& fn) {  // fn(affine, relu, with a residual)
  for (int variant = 0; variant < 8; ++variant) fn((variant & 1) != 0, (variant & 2) != 0, (variant & 4) != 0);
}

}  // namespace

TEST_CASE("a convolution with a norm, a residual and ReLU is these operators, to the bit", "[conv2d_batch_norm]") {
  const auto check = [](const Conv2dCase& c) {
    for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
      const Tensor x = random_tensor(c.x_shape(), 1, dtype), weight = random_tensor(c.weight_shape(), 2, dtype);
      const Tensor bias = c.bias ? random_tensor({c.out}, 3, dtype) : Tensor(), y = conv2d(x, weight, bias, c.options);
      for_each_variant([&](bool affine, bool relu, bool with_residual) {
        CAPTURE(c.name, dtype, affine, relu, with_residual);
        const InferenceNorm norm = make_norm(c.out, dtype, affine, relu);
        const Tensor residual = with_residual ? random_tensor(c.y_shape(), 5, dtype) : Tensor();
        CHECK(bit_equal(conv2d_batch_norm(x, weight, bias, c.options, norm, residual), one_after_the_other(y, norm, residual)));
      });
    }
  };
  for (const Conv2dCase& c : kConv2dSmall) check(c);
  for (const Conv2dCase& c : kMore) check(c);
}

TEST_CASE("a fusion site's convolution with a norm is these operators, to the bit", "[conv2d_batch_norm]") {
  for (const FusedConv2dCase& k : kFusedConv2d) {
    for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
      CAPTURE(k.name, dtype);
      FuseLevelsOptions levels{.out_h = k.out_h, .out_w = k.out_w, .align_corners = k.align_corners};
      std::vector<Tensor> branches;
      int64_t channels = 0;
      for (const FuseBranch& b : k.branches) {
        branches.push_back(random_tensor({k.n, b.h, b.w, b.c}, 30 + uint64_t(channels), dtype));
        levels.shift.push_back(b.shift == 0 ? Tensor() : random_tensor({b.shift}, 6, dtype));
        levels.scale.push_back(b.scale == 0 ? Tensor() : random_tensor({b.scale}, 7, dtype));
        channels += b.c;
      }
      Conv2dOptions conv;
      if (k.border) {
        levels.pad_h = k.pad_h;
        levels.pad_w = k.pad_w;
        levels.border = random_tensor({channels}, 8, dtype);
      } else {
        conv.pad_top = conv.pad_bottom = k.pad_h;
        conv.pad_left = conv.pad_right = k.pad_w;
      }
      const Tensor weight = random_tensor({k.out, k.kernel_h, k.kernel_w, channels}, 9, dtype);
      const Tensor bias = k.bias ? random_tensor({k.out}, 10, dtype) : Tensor(), y = fused_conv2d(branches, weight, bias, levels, conv);
      for (bool relu : {false, true}) {
        const InferenceNorm norm = make_norm(k.out, dtype, true, relu);
        CHECK(bit_equal(fused_conv2d_batch_norm(branches, weight, bias, levels, conv, norm), one_after_the_other(y, norm, {})));
      }
    }
  }
}

TEST_CASE("a convolution with a norm keeps NaN and gives the same bits on one thread and on two", "[conv2d_batch_norm]") {
  const int before = num_threads();
  for (const Conv2dCase& c : kMore) {
    INFO(c.name);
    Tensor x = random_tensor(c.x_shape(), 1, DType::kFloat32);
    x.data<float>()[0] = NAN;
    const Tensor weight = random_tensor(c.weight_shape(), 2, DType::kFloat32);
    const InferenceNorm norm = make_norm(c.out, DType::kFloat32, true, true);
    set_num_threads(1);
    const Tensor one = conv2d_batch_norm(x, weight, {}, c.options, norm);
    set_num_threads(2);
    const Tensor two = conv2d_batch_norm(x, weight, {}, c.options, norm);
    CHECK(std::isnan(one.data<float>()[0]));
    CHECK(std::memcmp(one.raw_data(), two.raw_data(), one.bytes()) == 0);
  }
  set_num_threads(before);
}

TEST_CASE("where gradients are wanted, a convolution with a norm records the operators in it", "[conv2d_batch_norm]") {
  const Conv2dCase c = {"", 2, 4, 5, 3, 4, 3, 3, conv2d_options(1, 1), true};
  InferenceNorm norm = make_norm(c.out, DType::kFloat64, true, true);
  const std::vector<Tensor> inputs = {random_leaf(c.x_shape(), 1), random_leaf(c.weight_shape(), 2), random_leaf({c.out}, 3),
                                      random_leaf({c.out}, 4),     random_leaf({c.out}, 5),          random_leaf(c.y_shape(), 6)};
  const auto apply = [&](const std::vector<Tensor>& in) {
    norm.gamma = in[3];
    norm.beta = in[4];
    return conv2d_batch_norm(in[0], in[1], in[2], c.options, norm, in[5]);
  };
  check_gradients(apply, inputs);
  const Tensor recorded = apply(inputs);
  const NoGradGuard no_grad;
  CHECK(recorded.requires_grad());
  CHECK(!apply(inputs).requires_grad());
  CHECK(bit_equal(recorded, apply(inputs)));
}

TEST_CASE("a convolution with a norm says which argument does not fit", "[conv2d_batch_norm]") {
  const Tensor x = random_tensor({1, 4, 4, 3}, 1), weight = random_tensor({5, 3, 3, 3}, 2);
  const Conv2dOptions same = conv2d_options(1, 1);
  const InferenceNorm good = make_norm(5, DType::kFloat64, true, false);
  const auto what = [&](const InferenceNorm& norm, const Tensor& residual) {
    try {
      conv2d_batch_norm(x, weight, {}, same, norm, residual);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  InferenceNorm bad = good;
  bad.gamma = random_tensor({4}, 3);
  CHECK_THAT(what(bad, {}), Catch::Contains("gamma") && Catch::Contains("[5]") && Catch::Contains("[4]"));
  bad = good;
  bad.running_var = {};
  CHECK_THAT(what(bad, {}), Catch::Contains("running"));
  bad = good;
  bad.beta = good.beta.to(DType::kFloat32);
  CHECK_THAT(what(bad, {}), Catch::Contains("beta") && Catch::Contains("float32"));
  CHECK_THAT(what(good, random_tensor({1, 4, 4, 4}, 4)), Catch::Contains("residual must be like the result, ["));
  const Tensor leaf = random_leaf({5, 3, 3, 3}, 2);  // recorded or not: the same rules
  CHECK_THROWS_WITH(conv2d_batch_norm(x, leaf, {}, same, good, random_tensor({1, 1, 1, 5}, 4)), Catch::Contains("residual"));
}

TEST_CASE("a cache of weights follows the weight, the algorithm and its cuts", "[conv2d_batch_norm]") {
  struct Step {
    const char* name;
    int64_t n, h, w;
    bool same_memory;  // the weight changes in place, or is another tensor
  };
  const Step steps[] = {{"few tiles", 1, 8, 9, true},          {"few tiles again", 1, 8, 9, true}, {"more pictures", 2, 8, 9, true},
                        {"many tiles", 1, 50, 40, true},       {"many tiles, other memory", 1, 50, 40, false},
                        {"many tiles again", 1, 50, 40, false}, {"few tiles, other memory", 1, 8, 9, false}};
  for (int64_t stride : {1, 2}) {
    WeightCache cache;
    const InferenceNorm norm = make_norm(80, DType::kFloat32, true, true);
    const Conv2dOptions options = conv2d_options(stride, 1);
    Tensor weight = random_tensor({80, 3, 3, 330}, 2, DType::kFloat32);
    for (const Step& step : steps) {
      CAPTURE(step.name, stride);
      const Tensor x = random_tensor({step.n, step.h, step.w, 330}, 1, DType::kFloat32);
      for (int round = 0; round < 2; ++round) {  // the second one finds what the first one kept
        CHECK(bit_equal(conv2d_batch_norm(x, weight, {}, options, norm, {}, &cache), conv2d_batch_norm(x, weight, {}, options, norm)));
      }
      if (step.same_memory) {
        weight.add_(random_tensor(weight.shape(), 3, DType::kFloat32));
      } else {
        weight = random_tensor(weight.shape(), 4 + uint64_t(step.h), DType::kFloat32);
      }
    }
  }
}

TEST_CASE("where transformed filters find no memory they are not kept", "[conv2d_batch_norm]") {
  const InferenceNorm norm = make_norm(256, DType::kFloat32, true, true);
  const Conv2dOptions options = conv2d_options(1, 1);
  const Tensor x = random_tensor({1, 8, 8, 256}, 1, DType::kFloat32), weight = random_tensor({256, 3, 3, 256}, 2, DType::kFloat32);
  const Tensor y = conv2d_batch_norm(x, weight, {}, options, norm);
  allocator().release_cached();
  WeightCache cache;
  const size_t limit = allocator().limit();
  allocator().set_limit(allocator().stats().active_bytes + (size_t{4} << 20));  // they are 9 MiB
  const Tensor again = conv2d_batch_norm(x, weight, {}, options, norm, {}, &cache);
  CHECK_THROWS_AS(allocator().allocate(size_t{9} << 20), OutOfMemoryError);
  allocator().set_limit(limit);
  CHECK(bit_equal(again, y));
}

TEST_CASE("a cache of weights follows groups and views of one memory", "[conv2d_batch_norm]") {
  WeightCache cache;
  const InferenceNorm norm = make_norm(8, DType::kFloat32, true, false);
  const Tensor all = random_tensor({16, 3, 3, 4}, 2, DType::kFloat32);
  for (int64_t first : {0, 8}) {
    const Tensor weight = all.alias({8, 3, 3, 4}, first * 36);
    for (int64_t groups : {1, 2}) {
      CAPTURE(first, groups);
      const Tensor x = random_tensor({2, 7, 6, 4 * groups}, 1, DType::kFloat32);
      const Conv2dOptions options = conv2d_options(2, 1, 1, groups);
      CHECK(bit_equal(conv2d_batch_norm(x, weight, {}, options, norm, {}, &cache), conv2d_batch_norm(x, weight, {}, options, norm)));
    }
  }
}

TEST_CASE("a cache of weights calls again only for another weight or key", "[conv2d_batch_norm]") {
  WeightCache cache;
  int made = 0;
  const auto get = [&](const Tensor& weight, int64_t key) {
    return *cache.get<int>(weight, key, [&] { return std::make_unique<int>(++made); });
  };
  const Tensor a = random_tensor({2, 2}, 1);
  CHECK(get(a, 0) == 1);
  CHECK(get(a.alias({2, 2}), 0) == 1);  // the same values
  CHECK(get(a, 1) == 2);
  CHECK(get(a, 0) == 3);  // one entry is kept
  a.bump_version();
  CHECK(get(a, 0) == 4);
  CHECK(get(a.alias({2}), 0) == 5);  // other views of this memory
  CHECK(get(a.alias({2}, 2), 0) == 6);
  uint64_t gone = 0;
  {
    const Tensor b = random_tensor({2, 2}, 1);
    gone = b.memory_id();
    CHECK(get(b, 0) == 7);
  }
  const Tensor c = random_tensor({2, 2}, 1);  // may get b's address
  CHECK(c.memory_id() != gone);
  CHECK(get(c, 0) == 8);
  cache.clear();
  CHECK(get(c, 0) == 9);
}
