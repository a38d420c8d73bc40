#include "core/kernels/optimizer_step.h"

#include "cuda/block.h"

namespace eq::cuda {
namespace {

// The unit of element i of a weight [O,kh,kw,I] in groups: that of the input channel it reads.
template <class T>
struct Units {
  const T* unit;  // nullptr: 1 everywhere
  int64_t row, outputs;  // weights of a tap, of the output channels of a group
  EQ_HOST_DEVICE T at(int64_t i) const { return unit == nullptr ? T(1) : unit[i / outputs * row + i % row]; }
};

template <class T>
Units<T> units_of(const Tensor& unit, const Tensor& value, int64_t groups) {
  if (!unit.defined()) return {nullptr, 1, 1};
  return {data<T>(unit), value.size(3), value.numel() / groups};
}

template <class T>
struct SgdBody {
  SgdUpdate<T> update;
  Units<T> units;
  const T* grad;
  T *value, *momentum;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const T unit = units.at(i);
    T v = value[i] * unit;
    if (momentum == nullptr) {
      update(v, grad[i] / unit);
    } else {
      update(v, grad[i] / unit, momentum[i]);
    }
    value[i] = v / unit;
  }
};

template <class T>
struct AdamWBody {
  AdamWUpdate<T> update;
  Units<T> units;
  const T* grad;
  T *value, *mean, *square;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const T unit = units.at(i);
    T v = value[i] * unit;
    update(v, grad[i] / unit, mean[i], square[i]);
    value[i] = v / unit;
  }
};

constexpr int64_t kChunk = 16384;  // elements of a block's sum

template <class T>
__global__ void partial_squares(const T* x, Units<T> units, int64_t count, double* partials) {
  const int64_t begin = int64_t(blockIdx.x) * kChunk, end = begin + kChunk < count ? begin + kChunk : count;
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const double v = double(x[i] / units.at(i));
    sum += v * v;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void add_partials(const double* partials, int64_t count, double* sum) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) total += partials[i];
  total = block_sum(total);
  if (threadIdx.x == 0) *sum = total;
}

}  // namespace

template <class T>
void sgd_step(const SgdUpdate<T>& update, const Tensor& grad, const Tensor& unit, int64_t groups, const Tensor& value, const Tensor& momentum) {
  for_each(value.device(), "sgd", value.numel(),
           SgdBody<T>{update, units_of<T>(unit, value, groups), data<T>(grad), data<T>(value), data<T>(momentum)});
}

template <class T>
void adamw_step(const AdamWUpdate<T>& update, const Tensor& grad, const Tensor& unit, int64_t groups, const Tensor& value, const Tensor& mean,
                const Tensor& square) {
  for_each(value.device(), "adamw", value.numel(),
           AdamWBody<T>{update, units_of<T>(unit, value, groups), data<T>(grad), data<T>(value), data<T>(mean), data<T>(square)});
}

template void sgd_step(const SgdUpdate<float>&, const Tensor&, const Tensor&, int64_t, const Tensor&, const Tensor&);
template void sgd_step(const SgdUpdate<double>&, const Tensor&, const Tensor&, int64_t, const Tensor&, const Tensor&);
template void adamw_step(const AdamWUpdate<float>&, const Tensor&, const Tensor&, int64_t, const Tensor&, const Tensor&, const Tensor&);
template void adamw_step(const AdamWUpdate<double>&, const Tensor&, const Tensor&, int64_t, const Tensor&, const Tensor&, const Tensor&);

void sum_of_squares(const Tensor& x, const Tensor& unit, int64_t groups, const Tensor& sums, int64_t index) {
  const unsigned chunks = blocks_for(x.numel(), kChunk);
  const Tensor partials = Tensor::empty({int64_t(chunks)}, DType::kFloat64, x.device());
  dispatch_floating(x.dtype(), "sum of squares", [&]<typename T>() {
    launch(x.device(), "sum of squares", Grid{chunks, kThreads}, partial_squares<T>, data<T>(x), units_of<T>(unit, x, groups), x.numel(),
           data<double>(partials));
  });
  launch(x.device(), "sum of squares", Grid{1, kThreads}, add_partials, data<double>(partials), int64_t(chunks), data<double>(sums) + index);
}

}  // namespace eq::cuda
