#include "core/kernels/pad2d.h"

#include <algorithm>

#include "core/parallel.h"

namespace eq::cpu {

void pad2d_forward(const Tensor& x, Tensor& y, int64_t top, int64_t left, double value) {
  dispatch_floating(x.dtype(), "pad2d", [&]<typename T>() {
    const int64_t h = x.size(1), w = x.size(2), c = x.size(3), out_h = y.size(1), out_w = y.size(2);
    const T *in = x.data<T>(), border = T(value);
    T* out = y.data<T>();
    // Columns [first, last) of a row come from the image.
    const int64_t first = std::clamp<int64_t>(left, 0, out_w);
    const int64_t last = std::clamp<int64_t>(w + left, first, out_w);
    parallel_for(y.size(0) * out_h, grain_for(out_w * c, 1 << 16), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i % out_h - top;
        T* to = out + i * out_w * c;
        if (row < 0 || row >= h) {
          std::fill_n(to, out_w * c, border);
          continue;
        }
        const T* from = in + ((i / out_h * h + row) * w + first - left) * c;
        std::fill_n(to, first * c, border);
        std::copy_n(from, (last - first) * c, to + first * c);
        std::fill_n(to + last * c, (out_w - last) * c, border);
      }
    });
  });
}

}  // namespace eq::cpu
