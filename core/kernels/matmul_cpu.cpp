#include "core/kernels/matmul.h"

// GCC 12 takes the deliberately undefined operands of its own AVX-512 intrinsics for a mistake, once per inlined use.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Core>

#include "core/kernels/conv2d_direct.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/matmul_tile.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kTileRows = 256, kTileColumns = 512, kLeastTile = 128;
constexpr int64_t kEnoughTasks = 8;         // then the cores are busy without smaller tiles
constexpr int64_t kLeastWork = 1 << 20;     // multiplications a task is worth
constexpr int64_t kLeastDepth = 1024;       // of a chunk of K
constexpr int64_t kTiledRows = 16;  // with fewer Eigen, which rearranges nothing, is up to 4 times as fast; with 49 3 to 34 % slower

int64_t pieces(int64_t count, int64_t size) { return (count + size - 1) / size; }

// How a product [m, k] x [k, n], done `batch` times, is cut. Follows from the sizes alone.
struct Tiling {
  int64_t rows, columns, depth;
};

Tiling choose_tiling(int64_t batch, int64_t m, int64_t n, int64_t k) {
  Tiling t{std::min(m, kTileRows), std::min(n, kTileColumns), std::max<int64_t>(1, k)};
  auto tasks = [&] { return batch * pieces(m, t.rows) * pieces(n, t.columns) * pieces(k, t.depth); };
  while (tasks() < kEnoughTasks && t.depth >= 2 * kLeastDepth && k >= std::max(m, n)) t.depth = (t.depth + 1) / 2;
  while (tasks() < kEnoughTasks && t.rows * t.columns * t.depth >= 2 * kLeastWork &&
         std::max(t.rows, t.columns) > kLeastTile) {
    int64_t& longer = t.rows >= t.columns ? t.rows : t.columns;
    longer = std::max(kLeastTile, (longer / 2 + 15) / 16 * 16);
  }
  return t;
}

template <class T, int kOrder>
using Operand =
    Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, kOrder>, Eigen::Unaligned, Eigen::OuterStride<>>;

// As tile_product, by Eigen: a transposed operand is the same memory read as column-major.
template <class T>
void eigen_product(const MatrixView<T>& a, const MatrixView<T>& b, T* c, int64_t c_stride, int64_t m, int64_t n, int64_t k,
                   bool accumulate) {
  const bool ta = a.transposed, tb = b.transposed;
  Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, Eigen::Unaligned, Eigen::OuterStride<>>
      result(c, m, n, Eigen::OuterStride<>(c_stride));
  auto multiply = [&](const auto& left, const auto& right) {
    if (accumulate) result.noalias() += left * right;
    else result.noalias() = left * right;
  };
  const Operand<T, Eigen::RowMajor> a_rows(a.data, ta ? 0 : m, ta ? 0 : k, Eigen::OuterStride<>(a.stride));
  const Operand<T, Eigen::ColMajor> a_columns(a.data, ta ? m : 0, ta ? k : 0, Eigen::OuterStride<>(a.stride));
  const Operand<T, Eigen::RowMajor> b_rows(b.data, tb ? 0 : k, tb ? 0 : n, Eigen::OuterStride<>(b.stride));
  const Operand<T, Eigen::ColMajor> b_columns(b.data, tb ? k : 0, tb ? n : 0, Eigen::OuterStride<>(b.stride));
  if (!ta && !tb) multiply(a_rows, b_rows);
  else if (!ta) multiply(a_rows, b_columns);
  else if (!tb) multiply(a_columns, b_rows);
  else multiply(a_columns, b_columns);
}

// Where each of the batch's matrices begins.
struct Offsets {
  int64_t a, b;
};

// c[i] = op(a + offsets[i].a) * op(b + offsets[i].b) (+ bias), the c[i] following each other.
template <class T>
void products(const T* a, bool ta, const T* b, bool tb, const T* bias, T* c, const std::vector<Offsets>& offsets,
              int64_t m, int64_t n, int64_t k, const Tensor& like) {
  fix_product_blocking();
  const int64_t batch = int64_t(offsets.size());
  if (batch * m * n == 0) return;
  const Tiling t = choose_tiling(batch, m, n, k);
  const int64_t row_tiles = pieces(m, t.rows), column_tiles = pieces(n, t.columns),
                chunks = std::max<int64_t>(1, pieces(k, t.depth));
  const int64_t lda = ta ? m : k, ldb = tb ? k : n, size = batch * m * n;
  // The first chunk of K goes to c itself, the others to scratch, to be added in order.
  const Tensor scratch = chunks > 1 ? Tensor::empty({(chunks - 1) * size}, like.dtype()) : Tensor();
  T* parts = chunks > 1 ? scratch.template data<T>() : nullptr;
  const int64_t work = t.rows * t.columns * t.depth;
  parallel_for(batch * row_tiles * column_tiles * chunks, grain_for(work, kLeastWork), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t column = task % column_tiles * t.columns, row = task / column_tiles % row_tiles * t.rows;
      const int64_t chunk = task / column_tiles / row_tiles % chunks, item = task / column_tiles / row_tiles / chunks;
      const int64_t first = chunk * t.depth, depth = std::min(t.depth, k - first);
      const int64_t rows = std::min(t.rows, m - row), columns = std::min(t.columns, n - column);
      T* target = (chunk == 0 ? c : parts + (chunk - 1) * size) + (item * m + row) * n + column;
      const bool with_bias = bias != nullptr && chunk == 0;
      for (int64_t r = 0; with_bias && r < rows; ++r) std::copy(bias + column, bias + column + columns, target + r * n);
      const MatrixView<T> left{a + offsets[item].a + (ta ? first * lda + row : row * lda + first), lda, ta};
      const MatrixView<T> right{b + offsets[item].b + (tb ? column * ldb + first : first * ldb + column), ldb, tb};
      if (m >= kTiledRows) tile_product(left, right, target, n, rows, columns, depth, with_bias);
      else eigen_product(left, right, target, n, rows, columns, depth, with_bias);
    }
  });
  if (chunks > 1) {
    parallel_for(size, grain_for(chunks), [&](int64_t begin, int64_t end) {
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        const T* part = parts + (chunk - 1) * size;
        for (int64_t i = begin; i < end; ++i) c[i] += part[i];
      }
    });
  }
}

// With enough rows the 1x1 convolution of them, which is the same sum, is faster than Eigen's product: in multiply-adds a second 10 to 60 %
// forward, 10 to 50 % for the gradients. It rearranges weights or operands, which fewer rows do not repay.
constexpr int64_t kConvolutionRows = 64, kConvolutionRowsBackward = 512;

Tensor as_image(const Tensor& x, int64_t rows) { return x.alias({1, rows, 1, x.numel() / rows}); }
Tensor as_filters(const Tensor& weight) { return weight.alias({weight.size(0), 1, 1, weight.size(1)}); }

}  // namespace

void fix_product_blocking() {
  static const bool once = [] {
    Eigen::setCpuCacheSizes(32 << 10, 1 << 20, 4 << 20);
    return true;
  }();
  static_cast<void>(once);
}

void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, Tensor& y) {
  const MatrixExtents left = matrix_extents(a.shape(), transpose_a), right = matrix_extents(b.shape(), transpose_b);
  const Shape batch = batch_shape(y.shape());
  const int64_t k = left.columns, n = right.columns;
  int64_t m = left.rows;
  std::vector<Offsets> offsets;
  const bool one_matrix_b = batch_shape(b.shape()).numel() == 1 && !transpose_a;
  if (one_matrix_b && batch_shape(a.shape()).numel() == batch.numel()) {  // the stack of a is one tall matrix
    m *= batch.numel();
    offsets.push_back({0, 0});
  }
  const BroadcastPlan plan = plan_broadcast(batch_shape(a.shape()), batch_shape(b.shape()), batch);
  for_each_run(plan, 0, offsets.empty() ? batch.numel() : 0, [&](int64_t, int64_t at_a, int64_t at_b, int64_t count) {
    const int last = plan.rank - 1;
    for (int64_t i = 0; i < count; ++i) {
      offsets.push_back({(at_a + i * plan.stride_a[last]) * m * k, (at_b + i * plan.stride_b[last]) * k * n});
    }
  });
  dispatch_floating(y.dtype(), "matmul", [&]<typename T>() {
    products<T>(a.data<T>(), transpose_a, b.data<T>(), transpose_b, nullptr, y.data<T>(), offsets, m, n, k, y);
  });
}

void linear(const Tensor& x, const Tensor& weight, const Tensor& bias, WeightCache* cache, Tensor& y) {
  const int64_t in = weight.size(1), out = weight.size(0);
  const int64_t rows = out == 0 ? 0 : y.numel() / out;
  dispatch_floating(y.dtype(), "linear", [&]<typename T>() {
    if (rows >= kConvolutionRows && in > 0) {
      Tensor image = as_image(y, rows);
      return conv::direct_forward<T>(as_image(x, rows), as_filters(weight), bias, {}, cache, image, Conv2dOptions());
    }
    products<T>(x.data<T>(), false, weight.data<T>(), true, bias.defined() ? bias.data<T>() : nullptr, y.data<T>(),
                {{0, 0}}, rows, out, in, y);
  });
}

void linear_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x) {
  const int64_t in = weight.size(1), out = weight.size(0);
  const int64_t rows = in == 0 ? 0 : grad_x.numel() / in;
  dispatch_floating(grad_x.dtype(), "linear", [&]<typename T>() {
    if (rows >= kConvolutionRowsBackward && out > 0) {
      Tensor image = as_image(grad_x, rows);
      return conv::direct_backward_input<T>(as_image(grad_y, rows), as_filters(weight), image, Conv2dOptions());
    }
    products<T>(grad_y.data<T>(), false, weight.data<T>(), false, nullptr, grad_x.data<T>(), {{0, 0}}, rows, in, out, grad_x);
  });
}

void linear_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight) {
  const int64_t in = grad_weight.size(1), out = grad_weight.size(0);
  const int64_t rows = in == 0 ? 0 : x.numel() / in;
  dispatch_floating(x.dtype(), "linear", [&]<typename T>() {
    if (rows >= kConvolutionRowsBackward && out > 0) {
      Tensor filters = as_filters(grad_weight);
      return conv::direct_backward_weight<T>(as_image(grad_y, rows), as_image(x, rows), filters, Conv2dOptions());
    }
    products<T>(grad_y.data<T>(), true, x.data<T>(), false, nullptr, grad_weight.data<T>(), {{0, 0}}, out, in, rows, grad_weight);
  });
}

}  // namespace eq::cpu
