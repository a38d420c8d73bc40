// A thread per pack of channels of the result.

#include "core/kernels/pad2d.h"

#include "cuda/divide.h"
#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

template <class T, int N>
struct Pad2d {
  const T* x;
  T* y;
  int64_t h, w, top, left;
  Divider packs, out_w, out_h;  // packs: of a pixel
  T border;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    int64_t rest = i;
    const int64_t pack = packs.split(rest), column = out_w.split(rest) - left, row = out_h.split(rest) - top;
    Pack<T, N> values;
    if (row >= 0 && row < h && column >= 0 && column < w) {
      values = load_pack<T, N>(x + (((rest * h + row) * w + column) * packs.divisor() + pack) * N);
    } else {
      for (int k = 0; k < N; ++k) values[k] = border;
    }
    store_pack(y + i * N, values);
  }
};

}  // namespace

void pad2d_forward(const Tensor& x, Tensor& y, int64_t top, int64_t left, double value) {
  if (y.numel() == 0) return;
  dispatch(x.dtype(), "pad2d", [&]<typename T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    with_pack<T>(
        x.size(3),
        [&]<int N>() {
          for_each(x.device(), "pad2d", y.numel() / N,
                   Pad2d<T, N>{in, out, x.size(1), x.size(2), top, left, Divider(x.size(3) / N), Divider(y.size(2)),
                               Divider(y.size(1)), T(value)});
        },
        in, out);
  });
}

}  // namespace eq::cuda
