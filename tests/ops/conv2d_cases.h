#pragma once
// Shapes of conv2d that tests and benchmarks share.

#include <array>

#include "core/kernels/conv2d.h"

namespace eq::cases {

struct Conv2dCase {
  const char* name;
  int64_t n, h, w, in, out, kh, kw;
  Conv2dOptions options;
  bool bias = false;

  Shape x_shape() const { return {n, h, w, in}; }
  Shape weight_shape() const { return {out, kh, kw, in / options.groups}; }
  Shape y_shape() const {
    const Conv2dOptions& o = options;
    return {n, conv_output_size(h, kh, o.stride_h, o.dilation_h, o.pad_top, o.pad_bottom),
            conv_output_size(w, kw, o.stride_w, o.dilation_w, o.pad_left, o.pad_right), out};
  }
  // Multiply-adds counted as two, zero padding included, as is usual.
  double flops() const { return 2.0 * double(y_shape().numel()) * double(kh * kw * in / options.groups); }
};

inline Conv2dOptions conv2d_options(int64_t stride, int64_t padding, int64_t dilation = 1, int64_t groups = 1) {
  return Conv2dOptions().stride(stride).padding(padding).dilation(dilation).set_groups(groups);
}
// {stride h, w}, {padding top, bottom, left, right}, {dilation h, w}, groups.
inline Conv2dOptions uneven_options(std::array<int64_t, 2> s, std::array<int64_t, 4> p, std::array<int64_t, 2> d, int64_t groups) {
  return {s[0], s[1], p[0], p[1], p[2], p[3], d[0], d[1], groups};
}

// Small shapes for correctness: every option alone and together, every kind of tail (channels and pixels).
inline const Conv2dCase kConv2dSmall[] = {
    {"1x1", 2, 5, 4, 3, 5, 1, 1, conv2d_options(1, 0), true},
    {"1x1 one pixel", 1, 1, 1, 2, 3, 1, 1, conv2d_options(1, 0), true},
    {"1x1 wide", 2, 7, 9, 35, 67, 1, 1, conv2d_options(1, 0)},
    {"1x1 stride 2", 2, 7, 8, 5, 6, 1, 1, conv2d_options(2, 0)},
    {"1x1 padded", 1, 4, 4, 3, 2, 1, 1, conv2d_options(1, 1), true},
    {"3x3", 2, 6, 7, 4, 5, 3, 3, conv2d_options(1, 1), true},
    {"3x3 many tails", 1, 9, 17, 19, 37, 3, 3, conv2d_options(1, 1)},
    {"3x3 exact blocks", 1, 8, 16, 32, 64, 3, 3, conv2d_options(1, 1), true},
    {"3x3 eleven classes", 1, 6, 15, 33, 11, 3, 3, conv2d_options(1, 1), true},
    {"3x3 nineteen classes", 1, 5, 29, 16, 19, 3, 3, conv2d_options(1, 1), true},
    {"3x3 without padding", 2, 5, 6, 3, 4, 3, 3, conv2d_options(1, 0)},
    {"3x3 stride 2", 2, 7, 8, 4, 6, 3, 3, conv2d_options(2, 1), true},
    {"3x3 stride 2, rows shorter than a tile", 3, 9, 7, 20, 37, 3, 3, conv2d_options(2, 1), true},
    {"3x3 stride 2, even", 1, 8, 6, 17, 18, 3, 3, conv2d_options(2, 1)},
    {"3x3 stride 3, dilation 2", 1, 13, 12, 3, 4, 3, 3, conv2d_options(3, 2, 2)},
    {"3x3 stride 4 leaves gaps", 1, 11, 13, 2, 3, 3, 3, conv2d_options(4, 0)},
    {"1x1 stride beyond the image", 1, 3, 3, 2, 3, 1, 1, conv2d_options(5, 0)},
    {"1x1 that reads padding only", 2, 1, 1, 2, 3, 1, 1, conv2d_options(3, 1), true},
    {"3x3 stride 2, dilation 2", 1, 11, 10, 3, 4, 3, 3, conv2d_options(2, 2, 2)},
    {"3x3 dilation 2", 1, 8, 9, 4, 3, 3, 3, conv2d_options(1, 2, 2)},
    {"3x3 dilation 4 beyond the image", 1, 5, 6, 3, 4, 3, 3, conv2d_options(1, 4, 4), true},
    {"3x3 dilation 9, taps that only some outputs read", 1, 30, 28, 5, 6, 3, 3, conv2d_options(1, 9, 9), true},
    {"3x3 dilation 12, stride 2", 1, 40, 37, 3, 9, 3, 3, conv2d_options(2, 12, 12)},
    {"3x3 padding wider than the filter", 1, 3, 4, 2, 3, 3, 3, conv2d_options(1, 4)},
    {"2x2 stride 2, patches", 2, 6, 8, 3, 5, 2, 2, conv2d_options(2, 0), true},
    {"4x4 stride 4, patches", 1, 8, 12, 3, 20, 4, 4, conv2d_options(4, 0), true},
    {"7x7 stem", 2, 15, 14, 3, 18, 7, 7, conv2d_options(2, 3)},
    {"5x3 uneven", 2, 9, 8, 3, 4, 5, 3, uneven_options({2, 1}, {1, 3, 0, 2}, {1, 2}, 1), true},
    {"1x3 and 2 groups", 1, 5, 9, 6, 4, 1, 3, uneven_options({1, 2}, {0, 0, 2, 1}, {1, 1}, 2)},
    {"3 groups", 2, 6, 5, 9, 12, 3, 3, conv2d_options(1, 1, 1, 3), true},
    {"2 groups, stride 2", 1, 7, 7, 8, 10, 3, 3, conv2d_options(2, 1, 1, 2)},
    {"8 groups of 2", 1, 6, 13, 16, 16, 3, 3, conv2d_options(1, 1, 1, 8), true},
    {"8 groups of 4", 2, 5, 11, 32, 32, 3, 3, conv2d_options(1, 1, 1, 8), true},
    {"8 groups of 4, stride 2", 1, 9, 22, 32, 32, 3, 3, conv2d_options(2, 1, 1, 8)},
    {"4 groups of 8, dilation 2", 1, 7, 12, 32, 32, 3, 3, conv2d_options(1, 2, 2, 4)},
    {"2 groups of 8 to 12, tiles of one vector", 2, 7, 9, 16, 24, 3, 3, conv2d_options(1, 1, 1, 2)},
    {"40 groups of 8 to 12, several of them in a task", 1, 5, 9, 320, 480, 3, 3, conv2d_options(2, 1, 1, 40)},
    {"1x1 4 to 12", 2, 6, 11, 4, 12, 1, 1, conv2d_options(1, 0)},
    {"5 groups of 4", 1, 6, 9, 20, 20, 3, 3, conv2d_options(1, 1, 1, 5), true},
    {"2 wide groups", 1, 5, 6, 36, 70, 3, 3, conv2d_options(1, 1, 1, 2), true},
    {"depthwise 3x3", 2, 6, 7, 5, 5, 3, 3, conv2d_options(1, 1, 1, 5), true},
    {"depthwise 3x3 tails", 1, 5, 19, 37, 37, 3, 3, conv2d_options(1, 1, 1, 37)},
    {"depthwise 3x3 stride 2", 1, 9, 8, 18, 18, 3, 3, conv2d_options(2, 1, 1, 18)},
    {"depthwise 3x3 dilation 3", 1, 9, 10, 6, 6, 3, 3, conv2d_options(1, 3, 3, 6)},
    {"depthwise 3x3 narrower than a run", 2, 5, 3, 40, 40, 3, 3, conv2d_options(1, 1, 1, 40), true},
    {"depthwise 3x3 stride 2, wide", 1, 8, 23, 41, 41, 3, 3, conv2d_options(2, 1, 1, 41), true},
    {"depthwise 3x3 stride 2, even", 2, 6, 18, 24, 24, 3, 3, conv2d_options(2, 1, 1, 24)},
    {"depthwise 3x3 dilation 2, wide", 1, 7, 21, 34, 34, 3, 3, conv2d_options(1, 2, 2, 34)},
    {"depthwise 5x5", 1, 7, 18, 20, 20, 5, 5, conv2d_options(1, 2, 1, 20)},
    {"depthwise 7x7 all border", 2, 8, 8, 36, 36, 7, 7, conv2d_options(1, 3, 1, 36), true},
    {"depthwise 7x7", 1, 9, 11, 33, 33, 7, 7, conv2d_options(1, 3, 1, 33), true},
    {"depthwise 7x7 on 3x2", 1, 3, 2, 4, 4, 7, 7, conv2d_options(1, 3, 1, 4)},
    {"depthwise 1x1", 2, 3, 4, 5, 5, 1, 1, conv2d_options(1, 0, 1, 5), true},
    {"depthwise, multiplier 2", 1, 6, 5, 7, 14, 3, 3, conv2d_options(1, 1, 1, 7), true},
    {"depthwise, multiplier 3, uneven", 2, 8, 7, 3, 9, 3, 5, uneven_options({2, 1}, {0, 2, 3, 1}, {1, 2}, 3)},
};

// What the networks are made of, mostly at a training crop of 256 x 256 and batch 8.
inline const Conv2dCase kConv2dNetworks[] = {
    {"stem 7x7/2 3->64 @256", 8, 256, 256, 3, 64, 7, 7, conv2d_options(2, 3)},
    {"stem 3x3/2 3->32 @256", 8, 256, 256, 3, 32, 3, 3, conv2d_options(2, 1)},
    {"stem 3x3/2 3->64 @256", 8, 256, 256, 3, 64, 3, 3, conv2d_options(2, 1)},
    {"3x3/2 32->64 @128", 8, 128, 128, 32, 64, 3, 3, conv2d_options(2, 1)},
    {"3x3/2 64->64 @128", 8, 128, 128, 64, 64, 3, 3, conv2d_options(2, 1)},
    {"patches 4x4/4 3->96 @256", 8, 256, 256, 3, 96, 4, 4, conv2d_options(4, 0), true},
    {"patches 2x2/2 96->192 @64", 8, 64, 64, 96, 192, 2, 2, conv2d_options(2, 0), true},
    {"patches 2x2/2 384->768 @16", 8, 16, 16, 384, 768, 2, 2, conv2d_options(2, 0), true},
    {"3x3 64->64 @64", 8, 64, 64, 64, 64, 3, 3, conv2d_options(1, 1)},
    {"3x3 128->128 @32", 8, 32, 32, 128, 128, 3, 3, conv2d_options(1, 1)},
    {"3x3 256->256 @16", 8, 16, 16, 256, 256, 3, 3, conv2d_options(1, 1)},
    {"3x3 512->512 @8", 8, 8, 8, 512, 512, 3, 3, conv2d_options(1, 1)},
    {"3x3 128->128 @64", 8, 64, 64, 128, 128, 3, 3, conv2d_options(1, 1)},
    {"3x3 512->128 @64", 8, 64, 64, 512, 128, 3, 3, conv2d_options(1, 1)},
    {"3x3 1024->128 @8", 8, 8, 8, 1024, 128, 3, 3, conv2d_options(1, 1)},
    {"3x3 18->18 @64", 8, 64, 64, 18, 18, 3, 3, conv2d_options(1, 1)},
    {"3x3 36->36 @32", 8, 32, 32, 36, 36, 3, 3, conv2d_options(1, 1)},
    {"3x3 72->72 @16", 8, 16, 16, 72, 72, 3, 3, conv2d_options(1, 1)},
    {"3x3 144->144 @8", 8, 8, 8, 144, 144, 3, 3, conv2d_options(1, 1)},
    {"3x3/2 18->36 @64", 8, 64, 64, 18, 36, 3, 3, conv2d_options(2, 1)},
    {"3x3/2 36->72 @32", 8, 32, 32, 36, 72, 3, 3, conv2d_options(2, 1)},
    {"3x3/2 64->128 @64", 8, 64, 64, 64, 128, 3, 3, conv2d_options(2, 1)},
    {"3x3/2 128->256 @32", 8, 32, 32, 128, 256, 3, 3, conv2d_options(2, 1)},
    {"3x3/2 256->512 @16", 8, 16, 16, 256, 512, 3, 3, conv2d_options(2, 1)},
    {"3x3/2 512->512 @16", 8, 16, 16, 512, 512, 3, 3, conv2d_options(2, 1)},
    {"3x3 dilation 2 256->256 @32", 8, 32, 32, 256, 256, 3, 3, conv2d_options(1, 2, 2)},
    {"3x3 dilation 4 512->512 @32", 2, 32, 32, 512, 512, 3, 3, conv2d_options(1, 4, 4)},
    {"3x3 dilation 12 512->128 @32", 2, 32, 32, 512, 128, 3, 3, conv2d_options(1, 12, 12)},
    {"3x3 dilation 24 512->128 @32", 2, 32, 32, 512, 128, 3, 3, conv2d_options(1, 24, 24)},
    {"3x3 dilation 36 512->128 @64", 1, 64, 64, 512, 128, 3, 3, conv2d_options(1, 36, 36)},
    {"1x1 64->128 @64", 8, 64, 64, 64, 128, 1, 1, conv2d_options(1, 0)},
    {"1x1 64->256 @64", 8, 64, 64, 64, 256, 1, 1, conv2d_options(1, 0)},
    {"1x1 256->64 @64", 8, 64, 64, 256, 64, 1, 1, conv2d_options(1, 0)},
    {"1x1 256->128 @16", 8, 16, 16, 256, 128, 1, 1, conv2d_options(1, 0)},
    {"1x1 128->512 @32", 8, 32, 32, 128, 512, 1, 1, conv2d_options(1, 0)},
    {"1x1 1024->256 @16", 8, 16, 16, 1024, 256, 1, 1, conv2d_options(1, 0)},
    {"1x1 512->2048 @8", 8, 8, 8, 512, 2048, 1, 1, conv2d_options(1, 0)},
    {"1x1 2048->512 @8", 8, 8, 8, 2048, 512, 1, 1, conv2d_options(1, 0)},
    {"1x1/2 64->128 @64", 8, 64, 64, 64, 128, 1, 1, conv2d_options(2, 0)},
    {"1x1/2 256->512 @16", 8, 16, 16, 256, 512, 1, 1, conv2d_options(2, 0)},
    {"1x1/2 256->512 @64", 8, 64, 64, 256, 512, 1, 1, conv2d_options(2, 0)},
    {"1x1 128->11 @64", 8, 64, 64, 128, 11, 1, 1, conv2d_options(1, 0), true},
    {"1x1 128->19 @64", 8, 64, 64, 128, 19, 1, 1, conv2d_options(1, 0), true},
    {"1x1 512->150 @64", 2, 64, 64, 512, 150, 1, 1, conv2d_options(1, 0), true},
    {"1x1 18->36 @64", 8, 64, 64, 18, 36, 1, 1, conv2d_options(1, 0)},
    {"1x1 270->270 @64", 2, 64, 64, 270, 270, 1, 1, conv2d_options(1, 0)},
    {"1x1 512->128 @1", 8, 1, 1, 512, 128, 1, 1, conv2d_options(1, 0)},
    {"3x3 32 groups 128->128 @64", 8, 64, 64, 128, 128, 3, 3, conv2d_options(1, 1, 1, 32)},
    {"3x3 32 groups 256->256 @32", 8, 32, 32, 256, 256, 3, 3, conv2d_options(1, 1, 1, 32)},
    {"3x3 32 groups 1024->1024 @8", 8, 8, 8, 1024, 1024, 3, 3, conv2d_options(1, 1, 1, 32)},
    {"3x3/2 32 groups 256->256 @64", 8, 64, 64, 256, 256, 3, 3, conv2d_options(2, 1, 1, 32)},
    {"depthwise 3x3 64 @64", 8, 64, 64, 64, 64, 3, 3, conv2d_options(1, 1, 1, 64)},
    {"depthwise 3x3 512 @16", 8, 16, 16, 512, 512, 3, 3, conv2d_options(1, 1, 1, 512)},
    {"depthwise 3x3/2 64 @128", 8, 128, 128, 64, 64, 3, 3, conv2d_options(2, 1, 1, 64)},
    {"depthwise 3x3/2 96 @64", 8, 64, 64, 96, 96, 3, 3, conv2d_options(2, 1, 1, 96)},
    {"depthwise 7x7 96 @64", 8, 64, 64, 96, 96, 7, 7, conv2d_options(1, 3, 1, 96)},
    {"depthwise 7x7 768 @8", 8, 8, 8, 768, 768, 7, 7, conv2d_options(1, 3, 1, 768)},
};

}  // namespace eq::cases
