// Sums in double, in a tree fixed by the shapes. Neighbouring reduced axes are one: x is [outer, count, inner]. A row (inner
// 1) is summed by a part of a warp, a warp or blocks; columns by blocks whose threads lie side by side over the columns and
// one behind another over the rows. Every thread keeps several 16-byte loads in flight. Long sums are cut into chunks, whose
// totals are summed the same way; axes that are no neighbours are reduced one group after another, with totals in double
// between.

#include "core/kernels/reduce.h"

#include "core/kernels/elementwise.h"
#include "core/kernels/permute.h"
#include "cuda/block.h"
#include "cuda/divide.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

// Where a sum is cut into chunks: the blocks wanted at most (two waves of four on an H100's multiprocessors) and the loads of
// a thread at least.
constexpr int64_t kBlocks = 1024, kLoads = 16;

struct Extents {
  int64_t outer = 1, count = 1, inner = 1;
};

// Where totals go: one of the pointers, which follow from the type of the output.
struct Totals {
  double* wide = nullptr;
  float* single = nullptr;
  bfloat16* half = nullptr;
  double factor = 1;

  Totals(const Tensor& y, double factor) : factor(factor) {
    dispatch(y.dtype(), "sum", [&]<typename T>() {
      if constexpr (std::is_same_v<T, double>) wide = data<T>(y);
      else if constexpr (std::is_same_v<T, float>) single = data<T>(y);
      else half = data<T>(y);
    });
  }
  __device__ void store(int64_t i, double total) const {
    total *= factor;
    if (wide != nullptr) wide[i] = total;
    else if (single != nullptr) single[i] = float(total);
    else half[i] = bfloat16(total);
  }
};

// What is added up: the values, or the squares of their distances from a centre.
template <bool squared, class T>
__device__ double term(T value, double centre) {
  const double x = double(value);
  if constexpr (squared) return (x - centre) * (x - centre);
  else return x;
}

struct RowPlan {
  int64_t rows, count;    // count: of a row
  int64_t chunk, chunks;  // elements of a chunk, a multiple of the pack; chunks of a row
  int log_lanes;          // 2^log_lanes threads share a chunk: a part of a warp, a warp, or the whole block
};

// Result: [rows, chunks].
template <class T, int N, bool squared>
__global__ void row_sums(RowPlan plan, const T* x, const double* centres, Totals totals) {
  const int lanes = 1 << plan.log_lanes, lane = int(threadIdx.x) & (lanes - 1);
  const int64_t which = (int64_t(blockIdx.x) * kThreads + threadIdx.x) >> plan.log_lanes;
  const bool exists = which < plan.rows * plan.chunks;
  const int64_t row = plan.chunks == 1 ? which : which / plan.chunks;
  const int64_t begin = (which - row * plan.chunks) * plan.chunk;
  const int64_t left = plan.count - begin, length = !exists ? 0 : left < plan.chunk ? left : plan.chunk;
  const double centre = squared && exists ? centres[row] : 0;
  const T* from = x + row * plan.count + begin;
  double sums[N] = {};
#pragma unroll 4
  for (int64_t i = lane * N; i + N <= length; i += lanes * N) {
    const Pack<T, N> values = load_pack<T, N>(from + i);
#pragma unroll
    for (int k = 0; k < N; ++k) sums[k] += term<squared>(values[k], centre);
  }
  if constexpr (N > 1) {
    for (int64_t i = length / N * N + lane; i < length; i += lanes) sums[0] += term<squared>(from[i], centre);
#pragma unroll
    for (int half = N / 2; half > 0; half /= 2) {
#pragma unroll
      for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
    }
  }
  double total = sums[0];
  if (lanes > 32) {
    total = block_sum(total);
  } else {
    for (int distance = lanes / 2; distance > 0; distance /= 2) total += __shfl_xor_sync(0xffffffffu, total, distance);
  }
  if (exists && lane == 0) totals.store(which, total);
}

struct ColumnPlan {
  int64_t count, inner;
  int64_t chunk, chunks;  // rows of a chunk, chunks of the count
  int64_t column_blocks;  // blocks side by side
  int width, lanes;       // a block: `width` packs side by side, `lanes` threads one behind another
};

// Result: [outer, chunks, inner].
template <class T, int N, bool squared>
__global__ void column_sums(ColumnPlan plan, const T* x, const double* centres, Totals totals) {
  double* shared = shared_memory<double>();  // [lanes][N][width]
  const int lane = int(threadIdx.x) / plan.width, place = int(threadIdx.x) - lane * plan.width;
  const int64_t slab = int64_t(blockIdx.x) / plan.column_blocks,
                column_block = int64_t(blockIdx.x) - slab * plan.column_blocks;
  const int64_t outer = slab / plan.chunks, first = (slab - outer * plan.chunks) * plan.chunk;
  const int64_t end = first + plan.chunk < plan.count ? first + plan.chunk : plan.count;
  const int64_t column = (column_block * plan.width + place) * N;
  const bool active = lane < plan.lanes && column < plan.inner;
  double sums[N] = {}, centre[N] = {};
  if (active) {
    if constexpr (squared) {
#pragma unroll
      for (int k = 0; k < N; ++k) centre[k] = centres[outer * plan.inner + column + k];
    }
    const T* from = x + (outer * plan.count + first + lane) * plan.inner + column;
    const int64_t step = plan.lanes * plan.inner;
#pragma unroll 4
    for (int64_t row = first + lane; row < end; row += plan.lanes) {
      const Pack<T, N> values = load_pack<T, N>(from);
      from += step;
#pragma unroll
      for (int k = 0; k < N; ++k) sums[k] += term<squared>(values[k], centre[k]);
    }
  }
  const int line = plan.width * N;
  if (lane < plan.lanes) {
#pragma unroll
    for (int k = 0; k < N; ++k) shared[lane * line + k * plan.width + place] = sums[k];
  }
  int distance = 1;
  while (distance * 2 < plan.lanes) distance *= 2;
  for (; distance > 0; distance /= 2) {
    __syncthreads();
    if (lane < distance && lane + distance < plan.lanes) {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        sums[k] += shared[(lane + distance) * line + k * plan.width + place];
        shared[lane * line + k * plan.width + place] = sums[k];
      }
    }
  }
  if (active && lane == 0) {
#pragma unroll
    for (int k = 0; k < N; ++k) totals.store(slab * plan.inner + column + k, sums[k]);
  }
}

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The chunks of `loads` loads that `threads` threads share, if `others` blocks run beside them.
int64_t chunks_for(int64_t loads, int64_t threads, int64_t others) {
  return std::max<int64_t>(1, std::min(divide_up(loads, threads * kLoads), kBlocks / others));
}

RowPlan plan_rows(const Extents& e, int pack) {
  const int64_t loads = divide_up(e.count, pack);
  RowPlan plan{e.outer, e.count, e.count, 1, 0};
  if (loads >= 4 * kThreads || (loads >= kThreads / 2 && e.outer < kBlocks / 2)) {
    plan.log_lanes = 8;
    static_assert(kThreads == 256);
    plan.chunk = divide_up(loads, chunks_for(loads, kThreads, e.outer)) * pack;
    plan.chunks = divide_up(e.count, plan.chunk);
  } else {
    while (plan.log_lanes < 5 && (int64_t{4} << plan.log_lanes) < loads) ++plan.log_lanes;
  }
  return plan;
}

// `last`: no more than a chunk for each column; narrow blocks then, so that more threads share the rows.
ColumnPlan plan_columns(const Extents& e, int pack, bool last) {
  const int64_t packs = e.inner / pack, column_blocks = divide_up(packs, last ? 8 : 64);
  const int width = int(divide_up(packs, column_blocks)), lanes = kThreads / width;
  const int64_t wanted = last ? 1 : chunks_for(e.count, lanes, e.outer * column_blocks);
  const int64_t chunk = divide_up(e.count, wanted);
  return {e.count, e.inner, chunk, divide_up(e.count, chunk), column_blocks, width, lanes};
}

// y[outer, inner] = factor * sum over count. x has T's type and at least one element; `last`: the second pass over chunks.
template <class T, bool squared>
void reduce(const Tensor& x, const Extents& e, const double* centres, const Tensor& y, double factor, bool last = false) {
  const T* in = data<T>(x);
  const bool rows = e.inner == 1;
  const int64_t aligned = !rows ? e.inner : e.outer == 1 ? kPackWidth<T> : e.count;  // packs may begin at its multiples
  with_pack<T>(
      aligned,
      [&]<int N>() {
        RowPlan row_plan;
        ColumnPlan column_plan;
        if (rows) row_plan = plan_rows(e, N);
        else column_plan = plan_columns(e, N, last);
        const int64_t chunks = rows ? row_plan.chunks : column_plan.chunks;
        const Tensor parts = chunks == 1 ? y : Tensor::empty({e.outer, chunks, e.inner}, DType::kFloat64, x.device());
        const Totals totals(parts, chunks == 1 ? factor : 1);
        if (rows) {
          launch(x.device(), "row sums", Grid{blocks_for((e.outer * chunks) << row_plan.log_lanes, kThreads), kThreads},
                 row_sums<T, N, squared>, row_plan, in, centres, totals);
        } else {
          const size_t shared = size_t(column_plan.lanes) * size_t(column_plan.width) * N * sizeof(double);
          launch(x.device(), "column sums",
                 Grid{blocks_for(e.outer * chunks * column_plan.column_blocks, 1), kThreads, shared},
                 column_sums<T, N, squared>, column_plan, in, centres, totals);
        }
        if (chunks > 1) reduce<double, false>(parts, {e.outer, chunks, e.inner}, nullptr, y, factor, true);
      },
      in);
}

// The groups of neighbouring axes that are reduced, or kept, together; axes of one element do not matter.
struct Groups {
  struct Group {
    int64_t extent;
    bool reduced;
  };
  std::vector<Group> groups;

  Groups(const Shape& shape, AxisMask mask) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] == 1) continue;
      const bool reduced = (mask >> axis & 1) != 0;
      if (groups.empty() || groups.back().reduced != reduced) groups.push_back({1, reduced});
      groups.back().extent *= shape[axis];
    }
  }
  int64_t reduced() const {
    return std::count_if(groups.begin(), groups.end(), [](const Group& g) { return g.reduced; });
  }
  // Takes the last reduced group out.
  Extents take() {
    Extents e;
    for (size_t i = groups.size(); i-- > 0;) {
      if (groups[i].reduced && e.count == 1) {
        e.count = groups[i].extent;
        groups.erase(groups.begin() + int64_t(i));
      } else {
        (e.count == 1 ? e.inner : e.outer) *= groups[i].extent;
      }
    }
    return e.count == 1 ? Extents{e.inner, 1, 1} : e;
  }
};

template <class T>
struct VarianceBackward {
  GatherPlan plan;
  const T *grad_y, *x;
  const double* mean;
  double factor;
  T* grad_x;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t o = plan.place(i);
    grad_x[i] = T(factor * double(grad_y[o]) * (double(x[i]) - mean[o]));
  }
};

// A place along the axis and its value; -1: none yet.
template <class W>
struct Best {
  W value;
  int64_t place;
};

// A NaN before everything, then the larger, then the first.
template <class W>
__device__ Best<W> better(const Best<W>& a, const Best<W>& b) {
  if (a.place < 0 || b.place < 0) return a.place < 0 ? b : a;
  const bool nan_a = a.value != a.value, nan_b = b.value != b.value;
  const bool take_b = nan_a || nan_b ? nan_b && (!nan_a || b.place < a.place)
                                     : b.value > a.value || (b.value == a.value && b.place < a.place);
  return take_b ? b : a;
}

// `lanes` threads share an output and meet in shared memory. Threads lie side by side along x's last axis: along the row
// that is searched, or over the columns.
template <class T>
__global__ void max_kernel(Extents e, int lanes, const T* x, T* y, int64_t* index) {
  using W = Wide<T>;
  __shared__ Best<W> shared[kThreads];
  const int outputs = kThreads / lanes, thread = int(threadIdx.x);
  const int lane = e.inner == 1 ? thread % lanes : thread / outputs;
  const int64_t output = int64_t(blockIdx.x) * outputs + (e.inner == 1 ? thread / lanes : thread % outputs);
  const bool exists = output < e.outer * e.inner;
  Best<W> best{W(0), -1};
  if (exists) {
    const int64_t outer = e.inner == 1 ? output : output / e.inner;
    const T* from = x + outer * e.count * e.inner + (output - outer * e.inner);
    for (int64_t r = lane; r < e.count; r += lanes) {
      const W value = W(from[r * e.inner]);
      if (best.place < 0 || (!(value <= best.value) && best.value == best.value)) best = {value, r};
    }
  }
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    shared[thread] = best;
    __syncthreads();
    const int other = e.inner == 1 ? thread + distance : thread + distance * outputs;
    if (lane < distance) best = better(best, shared[other]);
    __syncthreads();
  }
  if (exists && lane == 0) {
    index[output] = best.place;
    if (y != nullptr) y[output] = T(best.value);
  }
}

template <class T>
struct MaxBackward {
  const T* grad_y;
  const int64_t* index;
  T* grad_x;
  Divider inner, count;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    int64_t rest = i;
    const int64_t column = inner.split(rest), place = count.split(rest), output = rest * inner.divisor() + column;
    grad_x[i] = index[output] == place ? grad_y[output] : T(0);
  }
};

}  // namespace

void sum(const Tensor& x, AxisMask axes, double factor, Tensor& y) {
  if (x.numel() == 0) {
    y.fill_(0);
    return;
  }
  Groups groups(x.shape(), axes);
  Tensor current = x;
  for (int64_t left = groups.reduced(); left > 1; --left) {
    const Extents e = groups.take();
    const Tensor next = Tensor::empty({e.outer, e.inner}, DType::kFloat64, x.device());
    dispatch(current.dtype(), "sum", [&]<typename T>() { reduce<T, false>(current, e, nullptr, next, 1); });
    current = next;
  }
  const Extents e = groups.take();
  dispatch(current.dtype(), "sum", [&]<typename T>() { reduce<T, false>(current, e, nullptr, y, factor); });
}

void variance(const Tensor& x, AxisMask axes, double divisor, Tensor& y, Tensor& mean) {
  if (x.numel() == 0) return;
  Tensor source = x;
  Groups groups(x.shape(), axes);
  Extents e;
  if (groups.reduced() <= 1) {
    e = groups.take();
  } else {  // a copy with the reduced axes moved to the end
    std::vector<int> order;
    for (const bool reduced : {false, true}) {
      for (int axis = 0; axis < x.rank(); ++axis) {
        if (((axes >> axis & 1) != 0) == reduced) order.push_back(axis);
      }
    }
    source = Tensor::empty(permuted_shape(x.shape(), order), x.dtype(), x.device());
    permute(x, order, source);
    e = {x.numel() / reduced_count(x.shape(), axes), reduced_count(x.shape(), axes), 1};
  }
  dispatch(x.dtype(), "var", [&]<typename T>() {
    reduce<T, false>(source, e, nullptr, mean, 1 / double(e.count));
    reduce<T, true>(source, e, data<double>(mean), y, 1 / divisor);
  });
}

void variance_backward(const Tensor& grad_y, const Tensor& x, AxisMask axes, const Tensor& mean, double divisor,
                       Tensor& grad_x) {
  if (x.numel() == 0) return;
  const BroadcastPlan plan = plan_broadcast(x.shape(), reduced_shape(x.shape(), axes, true), x.shape());
  dispatch(x.dtype(), "var", [&]<typename T>() {
    for_each(x.device(), "var backward", x.numel(),
             VarianceBackward<T>{GatherPlan(plan.rank, plan.extent, plan.stride_b), data<T>(grad_y), data<T>(x),
                                 data<double>(mean), 2 / divisor, data<T>(grad_x)});
  });
}

void max(const Tensor& x, int axis, Tensor& y, Tensor& index) {
  if (x.numel() == 0) return;
  const Shape& shape = x.shape();
  const Extents e{shape.product(0, axis), shape[axis], shape.product(axis + 1, shape.rank())};
  const int64_t outputs = e.outer * e.inner, threads = int64_t{1} << 17;
  int lanes = 1;
  while (lanes < kThreads && lanes * 4 < e.count && (outputs * lanes < threads || (e.inner == 1 && lanes < 32))) lanes *= 2;
  dispatch(x.dtype(), "max", [&]<typename T>() {
    launch(x.device(), "max", Grid{blocks_for(outputs, kThreads / lanes), kThreads}, max_kernel<T>, e, lanes, data<T>(x),
           data<T>(y), data<int64_t>(index));
  });
}

void max_backward(const Tensor& grad_y, const Tensor& index, int axis, Tensor& grad_x) {
  const Shape& shape = grad_x.shape();
  if (grad_x.numel() == 0) return;
  dispatch(grad_y.dtype(), "max", [&]<typename T>() {
    for_each(grad_y.device(), "max backward", grad_x.numel(),
             MaxBackward<T>{data<T>(grad_y), data<int64_t>(index), data<T>(grad_x),
                            Divider(shape.product(axis + 1, shape.rank())), Divider(shape[axis])});
  });
}

}  // namespace eq::cuda
