#include "layers/upsampling.h"

#include "autograd/functional.h"
#include "core/kernels/bilinear_variance.h"
#include "core/nearest.h"

namespace eq {

void Upsampling::check() const { check_choice(mode, {"bilinear", "nearest"}, "model.upsampling"); }

Tensor Upsampling::resize(const Tensor& x, int64_t out_h, int64_t out_w) const {
  if (x.size(1) == out_h && x.size(2) == out_w) return x;
  return is_nearest() ? resize_nearest(x, out_h, out_w) : resize_bilinear(x, out_h, out_w, align_corners);
}

double Upsampling::variance_factor(int64_t in, int64_t out, double lag_one) const {
  const double bilinear = bilinear_variance_factor(in, out, align_corners, lag_one);  // checks the extents
  return is_nearest() ? 1 : bilinear;
}

}  // namespace eq
