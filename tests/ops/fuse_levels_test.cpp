#include "core/kernels/fuse_levels.h"

#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "fuse_levels_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using cases::FuseLevelsCase;

namespace {

struct Site {
  std::vector<Tensor> branches;
  FuseLevelsOptions options;
};

Site make_site(const FuseLevelsCase& k, DType dtype, bool leaves = false) {
  Site site;
  site.options.out_h = k.out_h;
  site.options.out_w = k.out_w;
  site.options.align_corners = k.align_corners;
  uint64_t seed = 20;
  for (const cases::FuseBranch& b : k.branches) {
    site.branches.push_back(random_tensor({k.n, b.h, b.w, b.c}, ++seed, dtype));
    if (leaves) site.branches.back().set_requires_grad();
    site.options.shift.push_back(b.shift == 0 ? Tensor() : random_tensor({b.shift}, ++seed, dtype));
    site.options.scale.push_back(b.scale == 0 ? Tensor() : random_tensor({b.scale}, ++seed, dtype));
  }
  return site;
}

double constant_at(const Tensor& constant, int64_t channel, double absent) {
  if (!constant.defined()) return absent;
  return constant.value_at(constant.numel() == 1 ? 0 : channel);
}

// Resize each branch, then map and place each value on its own.
Tensor assembled(const Site& site) {
  const int64_t out_h = site.options.out_h, out_w = site.options.out_w;
  int64_t channels = 0;
  for (const Tensor& branch : site.branches) channels += branch.size(3);
  Tensor y = Tensor::empty({site.branches[0].size(0), out_h, out_w, channels}, DType::kFloat64);
  int64_t offset = 0;
  for (size_t i = 0; i < site.branches.size(); ++i) {
    const Tensor resized = resize_bilinear(site.branches[i], out_h, out_w, site.options.align_corners);
    const int64_t c = resized.size(3);
    for (int64_t at = 0; at < resized.numel(); ++at) {
      const double value = resized.value_at(at) - constant_at(site.options.shift[i], at % c, 0);
      y.data<double>()[at / c * channels + offset + at % c] = value * constant_at(site.options.scale[i], at % c, 1);
    }
    offset += c;
  }
  return y;
}

std::vector<Tensor> gradients(const Site& site, const Tensor& grad_y) {
  fuse_levels(site.branches, site.options).backward(grad_y);
  std::vector<Tensor> result;
  for (Tensor branch : site.branches) {
    result.push_back(branch.grad());
    branch.set_grad({});
  }
  return result;
}

Tensor output_like(const FuseLevelsCase& k, uint64_t seed, DType dtype) {
  int64_t channels = 0;
  for (const cases::FuseBranch& b : k.branches) channels += b.c;
  return random_tensor({k.n, k.out_h, k.out_w, channels}, seed, dtype);
}

}  // namespace

TEST_CASE("fuse_levels: is resize, affine map and concatenation", "[fuse_levels]") {
  for (const FuseLevelsCase& k : cases::kFuseLevels) {
    CAPTURE(k.n, k.out_h, k.out_w, k.branches.size());
    const Site site = make_site(k, DType::kFloat64);
    const Tensor expected = assembled(site);
    check_close(fuse_levels(site.branches, site.options), expected, 1e-13);
    const Site narrow = make_site(k, DType::kFloat32);
    check_close(fuse_levels(narrow.branches, narrow.options), expected, 1e-6);
  }
}

TEST_CASE("fuse_levels: without an equalizer it is resize and concat", "[fuse_levels]") {
  for (const FuseLevelsCase& k : cases::kFuseLevels) {
    Site site = make_site(k, DType::kFloat64);
    site.options.shift.clear();
    site.options.scale.clear();
    std::vector<Tensor> resized;
    for (const Tensor& b : site.branches) resized.push_back(resize_bilinear(b, k.out_h, k.out_w, k.align_corners));
    check_close(fuse_levels(site.branches, site.options), concat(resized, -1), 1e-15);
  }
}

TEST_CASE("fuse_levels: gradients", "[fuse_levels]") {
  const SerialScope serial;  // thousands of tiny calls
  for (const FuseLevelsCase& k : cases::kFuseLevels) {
    CAPTURE(k.n, k.out_h, k.out_w, k.branches.size());
    const Site site = make_site(k, DType::kFloat64, true);
    check_gradients([&](const TensorList& in) { return fuse_levels(in, site.options); }, site.branches);
  }
}

TEST_CASE("fuse_levels: float32 gradients and the adjoint identity", "[fuse_levels]") {
  for (const FuseLevelsCase& k : cases::kFuseLevels) {
    Site site = make_site(k, DType::kFloat64, true), narrow = make_site(k, DType::kFloat32, true);
    const Tensor y = output_like(k, 40, DType::kFloat64);
    const std::vector<Tensor> grads = gradients(site, y), narrow_grads = gradients(narrow, y.to(DType::kFloat32));
    double from_branches = 0, from_output = 0, size = 0;
    site.options.shift.clear();  // the linear part
    const Tensor linear = fuse_levels(site.branches, site.options);
    for (int64_t i = 0; i < y.numel(); ++i) {
      from_output += linear.value_at(i) * y.value_at(i);
      size += std::abs(linear.value_at(i) * y.value_at(i));
    }
    for (size_t b = 0; b < grads.size(); ++b) {
      check_close(narrow_grads[b], grads[b], 1e-6);
      for (int64_t i = 0; i < grads[b].numel(); ++i) from_branches += grads[b].value_at(i) * site.branches[b].value_at(i);
    }
    CHECK(std::abs(from_branches - from_output) <= 1e-13 * size);
  }
}

TEST_CASE("fuse_levels: only wanted gradients are made, in the right channel ranges", "[fuse_levels]") {
  const FuseLevelsCase& k = cases::kFuseLevels[3];
  const Tensor y = output_like(k, 41, DType::kFloat64);
  const std::vector<Tensor> all = gradients(make_site(k, DType::kFloat64, true), y);
  for (size_t wanted = 0; wanted < k.branches.size(); ++wanted) {
    Site site = make_site(k, DType::kFloat64);
    site.branches[wanted].set_requires_grad();
    const std::vector<Tensor> some = gradients(site, y);
    for (size_t i = 0; i < some.size(); ++i) CHECK(some[i].defined() == (i == wanted));
    CHECK(bit_equal(some[wanted], all[wanted]));
  }
}

TEST_CASE("fuse_levels: the same bits for any number of threads", "[fuse_levels]") {
  const int before = num_threads();
  for (const FuseLevelsCase& k : cases::kFuseLevels) {
    const Site site = make_site(k, DType::kFloat32, true);
    const Tensor grad_y = output_like(k, 42, DType::kFloat32);
    std::vector<Tensor> results[2];
    for (int threads : {1, 2}) {
      set_num_threads(threads);
      results[threads - 1] = gradients(site, grad_y);
      results[threads - 1].push_back(fuse_levels(site.branches, site.options));
    }
    for (size_t i = 0; i < results[0].size(); ++i) CHECK(bit_equal(results[0][i], results[1][i]));
  }
  set_num_threads(before);
}

TEST_CASE("fuse_levels: a large result, written past the caches, has the bits of small ones", "[fuse_levels]") {
  const FuseLevelsCase large = {4, 64, 64, false, {{64, 64, 64, 64, 64}, {32, 32, 128, 1, 1}, {64, 16, 64, 0, 64}, {1, 1, 16, 0, 0}}};
  const Site site = make_site(large, DType::kFloat32);
  const Tensor all = fuse_levels(site.branches, site.options);  // 17 MiB
  for (int64_t n = 0; n < 4; ++n) {
    std::vector<Tensor> image;
    for (const Tensor& branch : site.branches) image.push_back(slice(branch, 0, n, n + 1));
    CHECK(bit_equal(slice(all, 0, n, n + 1), fuse_levels(image, site.options)));
  }
}

TEST_CASE("fuse_levels: a scale changed after the forward pass is noticed", "[fuse_levels]") {
  Site site = make_site(cases::kFuseLevels[0], DType::kFloat64, true);
  const Tensor y = fuse_levels(site.branches, site.options);
  site.options.scale[0].fill_(2);
  CHECK_THROWS_AS(y.backward(Tensor::zeros_like(y)), AutogradError);
}

TEST_CASE("fuse_levels: a border surrounds the same values, and gradients ignore it", "[fuse_levels]") {
  for (const FuseLevelsCase& k : cases::kFuseLevels) {
    CAPTURE(k.n, k.out_h, k.out_w, k.branches.size());
    const Site plain = make_site(k, DType::kFloat64, true);
    Site bordered = make_site(k, DType::kFloat64, true);
    const Tensor inside = fuse_levels(plain.branches, plain.options);
    const int64_t channels = inside.size(3), pad_h = 1, pad_w = 2;
    bordered.options.pad_h = pad_h;
    bordered.options.pad_w = pad_w;
    bordered.options.border = random_tensor({channels}, 50);
    const Tensor y = fuse_levels(bordered.branches, bordered.options);
    REQUIRE(y.shape() == Shape{k.n, k.out_h + 2 * pad_h, k.out_w + 2 * pad_w, channels});
    CHECK(bit_equal(pad2d(y, -pad_h, -pad_h, -pad_w, -pad_w), inside));
    for (int64_t i = 0; i < y.numel(); ++i) {
      const int64_t q = i / channels % y.size(2), p = i / channels / y.size(2) % y.size(1);
      if (p < pad_h || p >= pad_h + k.out_h || q < pad_w || q >= pad_w + k.out_w) {
        if (y.value_at(i) != bordered.options.border.value_at(i % channels)) FAIL("border pixel " << p << ", " << q);
      }
    }
    const Tensor grad_y = random_tensor(y.shape(), 51);
    const std::vector<Tensor> expected = gradients(plain, pad2d(grad_y, -pad_h, -pad_h, -pad_w, -pad_w));
    const std::vector<Tensor> grads = gradients(bordered, grad_y);
    for (size_t b = 0; b < grads.size(); ++b) CHECK(bit_equal(grads[b], expected[b]));
  }
}

TEST_CASE("fuse_levels: bad arguments", "[fuse_levels]") {
  const Tensor a = Tensor::zeros({1, 4, 4, 3}), b = Tensor::zeros({1, 2, 2, 5});
  FuseLevelsOptions options;
  CHECK_THROWS_AS(fuse_levels({}, options), UsageError);
  CHECK_THROWS_AS(fuse_levels({a, b}, options), ShapeError);  // no target size
  options.out_h = options.out_w = 4;
  CHECK(fuse_levels({a, b}, options).shape() == Shape{1, 4, 4, 8});
  CHECK_THROWS_AS(fuse_levels({a, Tensor()}, options), UsageError);
  CHECK_THROWS_AS(fuse_levels({a, b.to(DType::kFloat64)}, options), DTypeError);
  CHECK_THROWS_AS(fuse_levels({a, Tensor::zeros({2, 2, 2, 5})}, options), ShapeError);
  CHECK_THROWS_AS(fuse_levels({a, Tensor::zeros({1, 2, 5})}, options), ShapeError);
  options.scale = {Tensor::zeros({3})};
  CHECK_THROWS_WITH(fuse_levels({a, b}, options), Catch::Contains("2 branches") && Catch::Contains("scale"));
  options.scale = {Tensor::zeros({3}), Tensor::zeros({4})};
  CHECK_THROWS_WITH(fuse_levels({a, b}, options), Catch::Contains("scale[1]") && Catch::Contains("[5]"));
  options.scale = {Tensor(), Tensor::zeros({1}, DType::kFloat64)};
  CHECK_THROWS_AS(fuse_levels({a, b}, options), DTypeError);
  options.scale.clear();
  options.border = Tensor::zeros({7});
  CHECK_THROWS_WITH(fuse_levels({a, b}, options), Catch::Contains("border") && Catch::Contains("[8]"));
  options.border = {};
  options.pad_h = -1;
  CHECK_THROWS_AS(fuse_levels({a, b}, options), UsageError);
}
