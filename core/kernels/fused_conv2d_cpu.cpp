#include <algorithm>

#include "core/kernels/conv2d_batch_norm.h"
#include "core/kernels/lanes.h"
#include "core/kernels/tap_maps_cpu.h"
#include "core/parallel.h"

namespace eq {

bool commutes_with_resizing(const std::vector<Shape>& branches, const FuseLevelsOptions& levels, const Conv2dOptions& conv) {
  const bool dense = conv.stride_h == 1 && conv.stride_w == 1 && conv.dilation_h == 1 && conv.dilation_w == 1 && conv.groups == 1;
  const bool conv_pads = conv.pad_top != 0 || conv.pad_bottom != 0 || conv.pad_left != 0 || conv.pad_right != 0;
  const bool one_pads = !conv_pads || (levels.pad_h == 0 && levels.pad_w == 0 && !levels.border.defined());
  const bool filled = std::all_of(branches.begin(), branches.end(), [](const Shape& b) { return b[3] > 0; });
  return dense && one_pads && filled &&
         std::any_of(branches.begin(), branches.end(), [&](const Shape& b) { return multiplied_coarse(b, levels); });
}

namespace cpu {
namespace {

// A branch and its channel range of the concatenation.
struct Range {
  size_t branch;
  int64_t first, channels;
};

// The branches' constants as one value per channel of the concatenation; empty where none is defined.
template <class T>
std::vector<T> joined(const std::vector<Tensor>& constants, const std::vector<Shape>& branches, T absent) {
  if (std::none_of(constants.begin(), constants.end(), [](const Tensor& t) { return t.defined(); })) return {};
  std::vector<T> values;
  for (size_t i = 0; i < branches.size(); ++i) {
    const Tensor& constant = constants[i];
    for (int64_t c = 0; c < branches[i][3]; ++c) {
      values.push_back(constant.defined() ? constant.data<T>()[constant.numel() == 1 ? 0 : c] : absent);
    }
  }
  return values;
}

template <class T>
T dot(const T* a, const T* b, int64_t count) {
  Lanes<T> sum{};
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) sum += load(a + i) * load(b + i);
  T rest = 0;
  for (; i < count; ++i) rest += a[i] * b[i];
  return sum_lanes<T>(sum) + rest;
}

// Names as in the card: w the weight, v = scale * w.
template <class T>
class Site {
 public:
  Site(const std::vector<Shape>& shapes, const Tensor& weight, const FuseLevelsOptions& levels, const Conv2dOptions& options)
      : shapes_(shapes), w_(weight), out_(weight.size(0)), taps_(weight.size(1) * weight.size(2)), in_(weight.size(3)),
        scale_(joined<T>(levels.scale, shapes, T(1))), shift_(joined<T>(levels.shift, shapes, T(0))), blocks(out_, kLanes<T>) {
    for (size_t c = 0; c < scale_.size() && c < shift_.size(); ++c) shift_[c] *= scale_[c];
    if (levels.border.defined()) border_.assign(levels.border.data<T>(), levels.border.data<T>() + in_);
    resize = {.out_h = levels.out_h, .out_w = levels.out_w, .align_corners = levels.align_corners};
    conv.pad_top = options.pad_top + levels.pad_h;
    conv.pad_bottom = options.pad_bottom + levels.pad_h;
    conv.pad_left = options.pad_left + levels.pad_w;
    conv.pad_right = options.pad_right + levels.pad_w;
    int64_t first = 0;
    for (size_t i = 0; i < shapes.size(); ++i) {
      const Range range{i, first, shapes[i][3]};
      first += range.channels;
      if (multiplied_coarse(shapes[i], levels)) {
        coarse.push_back(range);
      } else {
        fine.push_back(range);
        fine_channels += range.channels;
      }
    }
    fine_as_is = fine.size() == 1 && shapes[fine[0].branch][1] == resize.out_h && shapes[fine[0].branch][2] == resize.out_w;
  }

  TapWindow window(const Tensor& y) const {
    return {w_.size(1), w_.size(2), conv.pad_top, conv.pad_left, resize.out_h, resize.out_w, y.size(1), y.size(2), resize.align_corners};
  }

  // v of the fine branches, [O,kh,kw,fine_channels].
  Tensor fine_weight() const {
    Tensor v = Tensor::empty({out_, w_.size(1), w_.size(2), fine_channels}, w_.dtype());
    for_filters([&](int64_t filter, const T* from) {
      T* to = v.data<T>() + filter * fine_channels;
      for (const Range& range : fine) to = scaled(from + range.first, range, to);
    });
    return v;
  }
  // v of a coarse branch, a filter of 1x1 for each output channel and tap in the order of a tap map: [taps * padded O,1,1,C].
  Tensor coarse_weight(const Range& range) const {
    Tensor v = Tensor::empty({taps_ * blocks.padded(), 1, 1, range.channels}, w_.dtype());
    for_filters([&](int64_t filter, const T* from) { scaled(from + range.first, range, v.data<T>() + in_map(filter) * range.channels); });
    for (int64_t o = out_; o < blocks.padded(); ++o) {
      for (int64_t t = 0; t < taps_; ++t) std::fill_n(v.data<T>() + in_map(o * taps_ + t) * range.channels, range.channels, T(0));
    }
    return v;
  }
  Tensor empty_map(const Range& range) const {
    const Shape& shape = shapes_[range.branch];
    return Tensor::empty({shape[0], shape[1], shape[2], taps_ * blocks.padded()}, w_.dtype());
  }

  // The fine branches, resized where they need it and concatenated.
  Tensor fine_features(const std::vector<Tensor>& branches) const {
    if (fine_as_is) return branches[fine[0].branch];
    std::vector<Tensor> inputs;
    for (const Range& range : fine) inputs.push_back(branches[range.branch]);
    Tensor joined = empty_fine();
    fuse_levels_forward(inputs, joined, resize);
    return joined;
  }
  Tensor empty_fine() const { return Tensor::empty({shapes_[0][0], resize.out_h, resize.out_w, fine_channels}, w_.dtype()); }

  bool shifts() const { return !shift_.empty(); }
  bool changes_outside() const { return shifts() || !border_.empty(); }
  // [tap][O]: sums over the channels of v * shift, and of w * border.
  std::vector<T> shift_products() const { return products_with(shift_); }
  std::vector<T> border_products() const { return products_with(border_); }

  // grad_w from the gradients of the fine and the coarse v's (the latter in the order of `coarse`), and the sums of grad_y [tap][O] where
  // the tap is inside and outside; these are read only where they matter.
  void join_gradients(const Tensor& fine_v, const std::vector<Tensor>& coarse_v, const std::vector<T>& inside,
                      const std::vector<T>& outside, Tensor& grad_w) const {
    for_filters([&](int64_t filter, const T*) {
      T* to = grad_w.data<T>() + filter * in_;
      const T* from = fine.empty() ? nullptr : fine_v.data<T>() + filter * fine_channels;
      for (const Range& range : fine) {
        scaled(from, range, to + range.first);
        from += range.channels;
      }
      for (size_t i = 0; i < coarse.size(); ++i) {
        scaled(coarse_v[i].data<T>() + in_map(filter) * coarse[i].channels, coarse[i], to + coarse[i].first);
      }
      const size_t sum = size_t(filter % taps_ * out_ + filter / taps_);
      if (shifts()) {
        for (int64_t c = 0; c < in_; ++c) to[c] -= shift_[size_t(c)] * inside[sum];
      }
      if (!border_.empty()) {
        for (int64_t c = 0; c < in_; ++c) to[c] += border_[size_t(c)] * outside[sum];
      }
    });
  }

 private:
  // fn(o * taps + tap, the filter's values [in])
  template <class Fn>
  void for_filters(const Fn& fn) const {
    parallel_for(out_ * taps_, grain_for(in_, 1 << 15), [&](int64_t begin, int64_t end) {
      for (int64_t filter = begin; filter < end; ++filter) fn(filter, w_.data<T>() + filter * in_);
    });
  }
  // to = from times the scale of the range; returns the end of to.
  T* scaled(const T* __restrict from, const Range& range, T* __restrict to) const {
    if (scale_.empty()) return std::copy_n(from, range.channels, to);
    const T* scale = scale_.data() + range.first;
    for (int64_t c = 0; c < range.channels; ++c) to[c] = scale[c] * from[c];
    return to + range.channels;
  }
  int64_t in_map(int64_t filter) const {
    const int64_t o = filter / taps_;
    return (o / blocks.size * taps_ + filter % taps_) * blocks.size + o % blocks.size;
  }
  std::vector<T> products_with(const std::vector<T>& values) const {
    std::vector<T> result(size_t(taps_ * out_), T(0));
    if (values.empty()) return result;
    for_filters([&](int64_t filter, const T* w) { result[size_t(filter % taps_ * out_ + filter / taps_)] = dot(w, values.data(), in_); });
    return result;
  }

  const std::vector<Shape>& shapes_;
  Tensor w_;
  int64_t out_, taps_, in_;
  std::vector<T> scale_, shift_, border_;  // per channel; empty: none. shift_ is times scale_, so that it meets w

 public:
  ChannelBlocks blocks;
  FuseLevelsOptions resize;  // of the fine branches
  Conv2dOptions conv;
  std::vector<Range> coarse, fine;
  int64_t fine_channels = 0;
  bool fine_as_is;
};

std::vector<Shape> shapes_of(const std::vector<Tensor>& tensors) {
  std::vector<Shape> shapes;
  for (const Tensor& tensor : tensors) shapes.push_back(tensor.shape());
  return shapes;
}

// Every pixel of y becomes `values` [O], or 0.
template <class T>
void fill_pixels(Tensor& y, const Tensor& values) {
  const int64_t channels = y.size(3);
  y.fill_(0);
  if (!values.defined()) return;
  for (int64_t i = 0; i < y.numel(); i += channels) std::copy_n(values.data<T>(), channels, y.data<T>() + i);
}

template <class T>
void forward(const std::vector<Tensor>& branches, const Tensor& weight, Tensor bias, const conv::Finish<T>& finish, Tensor& y,
             const FuseLevelsOptions& levels, const Conv2dOptions& options) {
  const std::vector<Shape> shapes = shapes_of(branches);
  const Site<T> site(shapes, weight, levels, options);
  const int64_t out = weight.size(0);
  std::vector<T> outside;
  if (site.changes_outside()) {
    outside = site.border_products();
    const std::vector<T> shift = site.shift_products();
    if (site.shifts()) bias = bias.defined() ? bias.clone() : Tensor::zeros({out}, weight.dtype());
    for (size_t i = 0; i < shift.size(); ++i) {
      outside[i] += shift[i];
      if (site.shifts()) bias.data<T>()[i % size_t(out)] -= shift[i];
    }
  }
  if (site.fine.empty()) {
    fill_pixels<T>(y, bias);
  } else {
    conv2d_forward(site.fine_features(branches), site.fine_weight(), bias, y, site.conv);
  }
  std::vector<Tensor> maps;
  for (const Range& range : site.coarse) {
    maps.push_back(site.empty_map(range));
    conv2d_forward(branches[range.branch], site.coarse_weight(range), {}, maps.back(), {});
  }
  add_tap_maps<T>(maps, outside.empty() ? nullptr : outside.data(), finish, y, site.window(y), site.blocks);
}

template <class T>
void backward(const Tensor& grad_y, const std::vector<Tensor>& branches, const std::vector<Shape>& shapes, const Tensor& weight,
              FusedConv2dGradients& grads, const FuseLevelsOptions& levels, const Conv2dOptions& conv) {
  const Site<T> site(shapes, weight, levels, conv);
  const bool learns = grads.weight.defined();
  const auto wanted = [&](const Range& range) { return grads.branches[range.branch].defined(); };
  if (grads.bias.defined()) conv2d_backward_bias(grad_y, grads.bias);

  std::vector<Tensor> grad_maps, grad_coarse(site.coarse.size());
  std::vector<size_t> which;  // of site.coarse
  for (size_t i = 0; i < site.coarse.size(); ++i) {
    if (!learns && !wanted(site.coarse[i])) continue;
    grad_maps.push_back(site.empty_map(site.coarse[i]));
    which.push_back(i);
  }
  gather_tap_maps<T>(grad_y, grad_maps, site.window(grad_y), site.blocks);
  for (size_t k = 0; k < which.size(); ++k) {
    const Range& range = site.coarse[which[k]];
    if (wanted(range)) conv2d_backward_input(grad_maps[k], site.coarse_weight(range), grads.branches[range.branch], {});
    if (learns) {
      Tensor& grad_v = grad_coarse[which[k]] = Tensor::empty({grad_maps[k].size(3), 1, 1, range.channels}, weight.dtype());
      conv2d_backward_weight(grad_maps[k], branches[range.branch], grad_v, {});
    }
    grad_maps[k] = {};
  }

  Tensor grad_fine;
  if (std::any_of(site.fine.begin(), site.fine.end(), wanted)) {
    Tensor joined = site.fine_as_is ? grads.branches[site.fine[0].branch] : site.empty_fine();
    conv2d_backward_input(grad_y, site.fine_weight(), joined, site.conv);
    if (!site.fine_as_is) {
      std::vector<int64_t> channels;
      std::vector<Tensor> parts;
      for (const Range& range : site.fine) {
        channels.push_back(range.channels);
        parts.push_back(grads.branches[range.branch]);
      }
      fuse_levels_backward(joined, channels, parts, site.resize);
    }
  }
  if (!learns) return;
  if (!site.fine.empty()) {
    grad_fine = Tensor::empty({weight.size(0), weight.size(1), weight.size(2), site.fine_channels}, weight.dtype());
    conv2d_backward_weight(grad_y, site.fine_features(branches), grad_fine, site.conv);
  }
  std::vector<T> inside, outside;
  if (site.changes_outside()) {
    const size_t out = size_t(weight.size(0));
    outside.resize(size_t(weight.size(1) * weight.size(2)) * out);
    sum_outside<T>(grad_y, outside.data(), site.window(grad_y));
    Tensor all = Tensor::empty({weight.size(0)}, weight.dtype());
    conv2d_backward_bias(grad_y, all);
    inside.resize(outside.size());
    for (size_t i = 0; i < outside.size(); ++i) inside[i] = all.data<T>()[i % out] - outside[i];
  }
  site.join_gradients(grad_fine, grad_coarse, inside, outside, grads.weight);
}

}  // namespace

void fused_conv2d_forward(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias, Tensor& y,
                          const FuseLevelsOptions& levels, const Conv2dOptions& conv) {
  dispatch_floating(y.dtype(), "fused_conv2d", [&]<typename T>() { forward<T>(branches, weight, bias, {}, y, levels, conv); });
}

void fused_conv2d_batch_norm_forward(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias,
                                     const InferenceNorm& norm, Tensor& y, const FuseLevelsOptions& levels, const Conv2dOptions& conv) {
  dispatch_floating(y.dtype(), "fused_conv2d_batch_norm", [&]<typename T>() {
    forward<T>(branches, weight, bias, conv::Finish<T>(norm, {}, y), y, levels, conv);
  });
}

void fused_conv2d_backward(const Tensor& grad_y, const std::vector<Tensor>& branches, const std::vector<Shape>& shapes,
                           const Tensor& weight, FusedConv2dGradients& grads, const FuseLevelsOptions& levels, const Conv2dOptions& conv) {
  dispatch_floating(grad_y.dtype(), "fused_conv2d",
                    [&]<typename T>() { backward<T>(grad_y, branches, shapes, weight, grads, levels, conv); });
}

}  // namespace cpu
}  // namespace eq
