#include "core/finite.h"

#include <cmath>

#include "core/parallel.h"

namespace eq {

bool all_finite(const Tensor& x) {
  const Tensor here = x.to(Device::cpu());
  const int finite = dispatch_floating(here.dtype(), "all_finite", [&]<class T>() {
    const T* values = here.template data<T>();
    return parallel_reduce(
        here.numel(), 65536, 1,
        [&](int64_t begin, int64_t end) {
          int ok = 1;
          for (int64_t i = begin; i < end; ++i) ok &= std::isfinite(values[i]);
          return ok;
        },
        [](int a, int b) { return a & b; });
  });
  return finite != 0;
}

}  // namespace eq
