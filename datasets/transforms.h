#pragma once
// Preparing pictures for a network. Each transform is a pure function of its arguments; what is random about it is
// drawn from the generator it is given. Pictures and label maps that are none (check_size), sizes that no picture has and windows
// outside of it throw UsageError.

#include <array>
#include <cstdint>
#include <string>

#include "core/random.h"
#include "core/tensor.h"
#include "datasets/dataset.h"
#include "datasets/options.h"

namespace eq {

struct Size {
  int64_t height = 0, width = 0;
  bool operator==(const Size&) const = default;
};

struct Window {
  int64_t top = 0, left = 0, height = 0, width = 0;
  bool operator==(const Window&) const = default;
};

// Throws UsageError naming the key: sizes below 1 or above the limits, ratios that are not positive and ordered, ...
void check_pipeline(const PipelineOptions& options);

// The largest size of `from`'s aspect ratio whose longer side fits max(scale) and whose shorter side fits min(scale),
// sides rounded to the nearest and at least 1. `scale` is width, height, each times `ratio` and cut to an integer.
Size fitted_size(Size from, const std::array<int64_t, 2>& scale, double ratio = 1);

// Bilinear with half-pixel centres, source coordinates clamped to the picture, no antialiasing, in 11-bit fixed point:
// the same bytes on every machine. The window is a part of the resized picture; computing it alone equals cutting it
// out.
Image resize_bilinear(const Image& image, Size size, const Window& window);
Image resize_bilinear(const Image& image, Size size);
// The source pixel whose area holds the centre of the target pixel, so that labels stay aligned with resize_bilinear.
LabelMap resize_nearest(const LabelMap& labels, Size size, const Window& window);
LabelMap resize_nearest(const LabelMap& labels, Size size);

// The ratio is one draw, uniform in the range.
Size draw_size(Size from, const ResizeOptions& options, Random& random);
// Draws top, then left, uniform over the places where the window lies inside; a side larger than the picture is cut to
// it. While one class has more than `max_class_share` of the window's labelled pixels, or no two classes are there, it
// draws again, ten times at most. `labels` are those before resizing to `size`. max_class_share >= 1 draws once.
Window draw_crop(const LabelMap& labels, Size size, const std::array<int64_t, 2>& crop, double max_class_share,
                 Random& random);

void flip_horizontally(Image& image);
void flip_horizontally(LabelMap& labels);
void flip_vertically(Image& image);
void flip_vertically(LabelMap& labels);
// Clockwise, by `quarters` right angles, 0 to 3; odd ones exchange height and width.
void turn(Image& image, int quarters);
void turn(LabelMap& labels, int quarters);

// Each with probability 1/2, in this order of draws: brightness (add uniform [-32, 32)); contrast (multiply by uniform
// [0.5, 1.5)), before or after the colours by a coin drawn first; saturation (multiply by uniform [0.5, 1.5)); hue
// (turn by an integer in [-18, 18) of 180). Saturation and hue are those of the HSV cone. Clipped to [0, 255] and
// truncated to 8 bits after each step (rounded after the hue).
void distort_photometrically(Image& image, Random& random);

// out[y][x][c] = (pixel - mean) / std for the picture, 0 for the rest of the [height, width, 3] memory at `out`:
// padding is below and to the right. The picture must fit (unchecked).
void normalize_into(const Image& image, const PipelineOptions& options, Size padded, float* out);
void pad_labels_into(const LabelMap& labels, Size padded, uint8_t* out);  // the rest is kIgnoreIndex

// Resize, crop, flip, photometric distortion, turn and vertical flip as the options say. Each draws from a fork of its own,
// random.fork(0) to (5), so that switching one off leaves the others' draws as they were. What is turned by a quarter is cut out with
// exchanged sides before, so that all crops have one size; without a crop only square pictures are, others are turned by a half.
RawSample augment(const RawSample& sample, const PipelineOptions& options, const Random& random);

// The size in which a picture is evaluated: fitted to test_scale, if any, times `scale`.
Size evaluation_size(Size from, const PipelineOptions& options, double scale = 1);
// A picture as a network evaluates it: of that size, and normalised. float32 [1, H, W, 3].
Tensor prepare_image(const Image& image, const PipelineOptions& options, double scale = 1);
Tensor labels_tensor(const LabelMap& labels);  // uint8 [H, W]

struct Sample {
  Tensor image;   // float32 [1, H, W, 3], normalised
  Tensor labels;  // uint8 [h, w], as loaded: of the picture's own size
  std::string name;
  int64_t index = 0;
};
Sample load_for_evaluation(const Dataset& dataset, int64_t index, const PipelineOptions& options);

}  // namespace eq
