#include "datasets/transforms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/errors.h"
#include "core/limits.h"

namespace eq {
namespace {

constexpr int kFraction = 11;  // bits of a bilinear weight
constexpr int kOne = 1 << kFraction;

struct Tap {
  int64_t low, high;  // source positions
  int weight;         // of `high`, in 1/2048
};

// Source positions of the targets begin .. begin + count - 1 along an axis resized from `in` to `out`: (i + 1/2) in/out
// - 1/2.
std::vector<Tap> bilinear_taps(int64_t in, int64_t out, int64_t begin, int64_t count) {
  std::vector<Tap> taps(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = std::max<int64_t>(0, (2 * (begin + i) + 1) * in - out);  // in units of 1/(2 out)
    const int64_t low = std::min(position / (2 * out), in - 1), rest = position - low * 2 * out;
    const int64_t high = std::min(low + 1, in - 1);
    taps[size_t(i)] = {low, high, low == high ? 0 : int((rest * kOne + out) / (2 * out))};
  }
  return taps;
}

std::vector<int64_t> nearest_positions(int64_t in, int64_t out, int64_t begin, int64_t count) {
  std::vector<int64_t> positions(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) positions[size_t(i)] = (2 * (begin + i) + 1) * in / (2 * out);
  return positions;
}

Window whole(Size size) { return {0, 0, size.height, size.width}; }
Size size_of(const Image& image) { return {image.height, image.width}; }
Size size_of(const LabelMap& labels) { return {labels.height, labels.width}; }

// A row of the source, resized to the window's width: 8 + 11 bits.
void resize_row(const uint8_t* source, const std::vector<Tap>& taps, int32_t* out) {
  for (const Tap& tap : taps) {
    const uint8_t* a = source + 3 * tap.low;
    const uint8_t* b = source + 3 * tap.high;
    for (int c = 0; c < 3; ++c) out[c] = (int32_t(a[c]) << kFraction) + (int32_t(b[c]) - a[c]) * tap.weight;
    out += 3;
  }
}

// Does the window hold at least two classes, none with more than its share of the labelled pixels?
bool is_mixed(const LabelMap& labels, Size size, const Window& window, double max_class_share) {
  const auto rows = nearest_positions(labels.height, size.height, window.top, window.height);
  const auto columns = nearest_positions(labels.width, size.width, window.left, window.width);
  // Four of each, in turn: neighbours are mostly of one class, and each count would wait for the one before.
  std::array<std::array<int64_t, 256>, 4> counts{};
  for (int64_t y : rows) {
    const uint8_t* row = labels.labels.data() + y * labels.width;
    for (size_t i = 0; i < columns.size(); ++i) ++counts[i % 4][row[columns[i]]];
  }
  int64_t total = 0, largest = 0, classes = 0;
  for (size_t label = 0; label < 256; ++label) {
    if (label == size_t(kIgnoreIndex)) continue;
    const int64_t count = counts[0][label] + counts[1][label] + counts[2][label] + counts[3][label];
    total += count;
    largest = std::max(largest, count);
    classes += count > 0;
  }
  return classes > 1 && double(largest) < max_class_share * double(total);
}

void check_positive_sides(const std::array<int64_t, 2>& sides, const char* key) {
  for (int64_t side : sides) {
    if (side < 1 || side > limits::kPictureSide) {
      throw UsageError("a side of " + std::to_string(side) + " pixels", key,
                       "give two numbers from 1 to " + std::to_string(limits::kPictureSide));
    }
  }
}

// Pictures resized to it, `ratio` times as large, stay within the limits of any picture.
void check_scale(const std::array<int64_t, 2>& scale, double ratio, const char* key) {
  check_positive_sides(scale, key);
  const double width = double(scale[0]) * ratio, height = double(scale[1]) * ratio;
  if (std::max(width, height) > double(limits::kPictureSide) || width * height > double(limits::kPicturePixels)) {
    throw UsageError("pictures would be resized to more than a picture may have", key,
                     "at most " + std::to_string(limits::kPictureSide) + " pixels a side and " +
                         std::to_string(limits::kPicturePixels) + " in all");
  }
}

void check_window(const char* where, Size size, const Window& window) {
  const auto inside = [](int64_t begin, int64_t extent, int64_t side) { return begin >= 0 && extent >= 1 && extent <= side && begin <= side - extent; };
  if (size.height <= limits::kPictureSide && size.width <= limits::kPictureSide && inside(window.top, window.height, size.height) &&
      inside(window.left, window.width, size.width)) {
    return;
  }
  throw UsageError("a window of " + size_text(window.width, window.height) + " at row " + std::to_string(window.top) + ", column " +
                       std::to_string(window.left) + " of a picture of " + size_text(size.width, size.height),
                   where, "give sides of 1 to " + std::to_string(limits::kPictureSide) + ", and a window inside");
}

}  // namespace

void check_pipeline(const PipelineOptions& options) {
  if (options.resize) {
    const auto [low, high] = options.resize->ratio_range;
    if (!(low > 0 && low <= high && high <= 64)) {
      throw UsageError("the ratios must be positive, at most 64, and the first not above the second", "pipeline.resize.ratio_range",
                       "use for example [0.5, 2.0]");
    }
    check_scale(options.resize->scale, high, "pipeline.resize.scale");
  }
  if (options.crop) check_positive_sides(*options.crop, "pipeline.crop");
  if (options.test_scale) check_scale(*options.test_scale, 1, "pipeline.test_scale");
  if (!(options.max_class_share > 0 && options.max_class_share <= 1)) {
    throw UsageError("a share must be above 0 and at most 1", "pipeline.max_class_share", "use 0.75, or 1 to accept any crop");
  }
  const std::pair<const char*, double> probabilities[] = {
      {"pipeline.flip", options.flip}, {"pipeline.vertical_flip", options.vertical_flip}, {"pipeline.rotate90", options.rotate90}};
  for (const auto& [key, probability] : probabilities) {
    if (!(probability >= 0 && probability <= 1)) throw UsageError("a probability must be 0 to 1", key, "use 0.5, or 0 for none");
  }
  for (size_t c = 0; c < 3; ++c) {
    if (!std::isfinite(options.mean[c]) || !std::isfinite(options.std[c]) || !(options.std[c] > 0)) {
      throw UsageError("mean and std must be finite, std positive", "pipeline.mean, pipeline.std",
                       "they are of pixels 0 to 255, for R, G and B");
    }
  }
}

Size fitted_size(Size from, const std::array<int64_t, 2>& scale, double ratio) {
  const double a = std::floor(double(scale[0]) * ratio), b = std::floor(double(scale[1]) * ratio);
  const double factor = std::min(std::max(a, b) / double(std::max(from.height, from.width)),
                                 std::min(a, b) / double(std::min(from.height, from.width)));
  auto side = [&](int64_t old) { return std::max<int64_t>(1, int64_t(double(old) * factor + 0.5)); };
  return {side(from.height), side(from.width)};
}

Image resize_bilinear(const Image& image, Size size, const Window& window) {
  check_size("resize_bilinear", image);
  check_window("resize_bilinear", size, window);
  Image result{window.height, window.width, std::vector<uint8_t>(size_t(3 * window.height * window.width))};
  if (size == size_of(image)) {
    for (int64_t y = 0; y < window.height; ++y) {
      std::memcpy(&result.pixels[size_t(3 * y * window.width)],
                  &image.pixels[size_t(3 * ((window.top + y) * image.width + window.left))], size_t(3 * window.width));
    }
    return result;
  }
  const std::vector<Tap> columns = bilinear_taps(image.width, size.width, window.left, window.width);
  const std::vector<Tap> rows = bilinear_taps(image.height, size.height, window.top, window.height);
  // The two source rows in use, resized in width; consecutive targets mostly share them.
  const size_t row_values = size_t(3 * window.width);
  std::vector<int32_t> buffers[2] = {std::vector<int32_t>(row_values), std::vector<int32_t>(row_values)};
  int64_t held[2] = {-1, -1};
  auto row_at = [&](int64_t y, int64_t other) {
    for (int i = 0; i < 2; ++i) {
      if (held[i] == y) return i;
    }
    const int i = held[0] == other ? 1 : 0;
    resize_row(&image.pixels[size_t(3 * y * image.width)], columns, buffers[i].data());
    held[i] = y;
    return i;
  };
  uint8_t* out = result.pixels.data();
  for (const Tap& tap : rows) {
    const int32_t* low = buffers[row_at(tap.low, tap.high)].data();
    const int32_t* high = buffers[row_at(tap.high, tap.low)].data();
    for (size_t i = 0; i < row_values; ++i) {
      // At most 255 * 2^22 + 2^21: fits 31 bits.
      out[i] = uint8_t((low[i] * (kOne - tap.weight) + high[i] * tap.weight + (1 << (2 * kFraction - 1))) >> (2 * kFraction));
    }
    out += row_values;
  }
  return result;
}

Image resize_bilinear(const Image& image, Size size) { return resize_bilinear(image, size, whole(size)); }

LabelMap resize_nearest(const LabelMap& labels, Size size, const Window& window) {
  check_size("resize_nearest", labels);
  check_window("resize_nearest", size, window);
  LabelMap result{window.height, window.width, std::vector<uint8_t>(size_t(window.height * window.width))};
  const auto rows = nearest_positions(labels.height, size.height, window.top, window.height);
  const auto columns = nearest_positions(labels.width, size.width, window.left, window.width);
  uint8_t* out = result.labels.data();
  for (int64_t y : rows) {
    const uint8_t* row = labels.labels.data() + y * labels.width;
    for (int64_t x : columns) *out++ = row[x];
  }
  return result;
}

LabelMap resize_nearest(const LabelMap& labels, Size size) { return resize_nearest(labels, size, whole(size)); }

Size draw_size(Size from, const ResizeOptions& options, Random& random) {
  return fitted_size(from, options.scale, random.uniform(options.ratio_range[0], options.ratio_range[1]));
}

Window draw_crop(const LabelMap& labels, Size size, const std::array<int64_t, 2>& crop, double max_class_share, Random& random) {
  constexpr int kRedraws = 10;
  check_size("draw_crop", labels);
  Window window{0, 0, std::min(crop[0], size.height), std::min(crop[1], size.width)};
  check_window("draw_crop", size, window);
  for (int draw = 0; draw <= kRedraws; ++draw) {
    window.top = random.uniform_int(0, size.height - window.height + 1);
    window.left = random.uniform_int(0, size.width - window.width + 1);
    if (max_class_share >= 1 || draw == kRedraws || is_mixed(labels, size, window, max_class_share)) break;
  }
  return window;
}

void flip_horizontally(Image& image) {
  check_size("flip_horizontally", image);
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* row = image.pixels.data() + 3 * y * image.width;
    for (int64_t a = 0, b = image.width - 1; a < b; ++a, --b) std::swap_ranges(row + 3 * a, row + 3 * a + 3, row + 3 * b);
  }
}

void flip_horizontally(LabelMap& labels) {
  check_size("flip_horizontally", labels);
  for (int64_t y = 0; y < labels.height; ++y) {
    std::reverse(labels.labels.begin() + y * labels.width, labels.labels.begin() + (y + 1) * labels.width);
  }
}

namespace {

void swap_rows(uint8_t* values, int64_t rows, int64_t row_bytes) {
  for (int64_t a = 0, b = rows - 1; a < b; ++a, --b) {
    std::swap_ranges(values + a * row_bytes, values + (a + 1) * row_bytes, values + b * row_bytes);
  }
}

template <class Picture>
void check_turn(const Picture& picture, int quarters) {
  check_size("turn", picture);
  if (quarters < 0 || quarters > 3) throw UsageError("a turn by " + std::to_string(quarters) + " right angles", "turn", "use 0 to 3");
}

// [height, width, channels] turned clockwise.
std::vector<uint8_t> turned(const std::vector<uint8_t>& values, int64_t height, int64_t width, int64_t channels, int quarters) {
  std::vector<uint8_t> result(values.size());
  const int64_t rows = quarters % 2 == 0 ? height : width, columns = quarters % 2 == 0 ? width : height;
  uint8_t* out = result.data();
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < columns; ++x) {
      const int64_t from_y = quarters == 1 ? height - 1 - x : quarters == 2 ? height - 1 - y : x;
      const int64_t from_x = quarters == 1 ? y : width - 1 - (quarters == 2 ? x : y);
      out = std::copy_n(values.data() + (from_y * width + from_x) * channels, channels, out);
    }
  }
  return result;
}

}  // namespace

void flip_vertically(Image& image) {
  check_size("flip_vertically", image);
  swap_rows(image.pixels.data(), image.height, 3 * image.width);
}

void flip_vertically(LabelMap& labels) {
  check_size("flip_vertically", labels);
  swap_rows(labels.labels.data(), labels.height, labels.width);
}

void turn(Image& image, int quarters) {
  check_turn(image, quarters);
  if (quarters == 0) return;
  image.pixels = turned(image.pixels, image.height, image.width, 3, quarters);
  if (quarters % 2 == 1) std::swap(image.height, image.width);
}

void turn(LabelMap& labels, int quarters) {
  check_turn(labels, quarters);
  if (quarters == 0) return;
  labels.labels = turned(labels.labels, labels.height, labels.width, 1, quarters);
  if (quarters % 2 == 1) std::swap(labels.height, labels.width);
}

void normalize_into(const Image& image, const PipelineOptions& options, Size padded, float* out) {
  float offset[3], scale[3];
  for (size_t c = 0; c < 3; ++c) {
    offset[c] = float(options.mean[c]);
    scale[c] = float(1 / options.std[c]);
  }
  const int64_t row_values = 3 * image.width, padded_values = 3 * padded.width;
  for (int64_t y = 0; y < image.height; ++y) {
    const uint8_t* in = image.pixels.data() + y * row_values;
    float* row = out + y * padded_values;
    for (int64_t i = 0; i < row_values; i += 3) {
      for (int c = 0; c < 3; ++c) row[i + c] = (float(in[i + c]) - offset[c]) * scale[c];
    }
    std::fill(row + row_values, row + padded_values, 0.0f);
  }
  std::fill(out + image.height * padded_values, out + padded.height * padded_values, 0.0f);
}

void pad_labels_into(const LabelMap& labels, Size padded, uint8_t* out) {
  for (int64_t y = 0; y < labels.height; ++y) {
    uint8_t* row = out + y * padded.width;
    std::copy_n(labels.labels.data() + y * labels.width, labels.width, row);
    std::fill(row + labels.width, row + padded.width, uint8_t(kIgnoreIndex));
  }
  std::fill(out + labels.height * padded.width, out + padded.height * padded.width, uint8_t(kIgnoreIndex));
}

RawSample augment(const RawSample& sample, const PipelineOptions& options, const Random& random) {
  Random resizing = random.fork(0), cropping = random.fork(1), flipping = random.fork(2), coloring = random.fork(3),
         turning = random.fork(4), flipping_rows = random.fork(5);
  const Size from = size_of(sample.image);
  const Size size = options.resize ? draw_size(from, *options.resize, resizing) : from;
  int quarters = turning.bernoulli(options.rotate90) ? int(turning.uniform_int(1, 4)) : 0;
  if (quarters > 0 && !options.crop && size.height != size.width) quarters = 2;
  Window window = whole(size);
  if (options.crop) {
    const auto [height, width] = *options.crop;
    const bool exchanged = quarters % 2 == 1;
    window = draw_crop(sample.labels, size, {exchanged ? width : height, exchanged ? height : width}, options.max_class_share, cropping);
  }
  // Only the part that the crop keeps is resized.
  RawSample result{resize_bilinear(sample.image, size, window), resize_nearest(sample.labels, size, window), sample.name};
  if (flipping.bernoulli(options.flip)) {
    flip_horizontally(result.image);
    flip_horizontally(result.labels);
  }
  if (flipping_rows.bernoulli(options.vertical_flip)) {
    flip_vertically(result.image);
    flip_vertically(result.labels);
  }
  turn(result.image, quarters);
  turn(result.labels, quarters);
  if (options.photometric) distort_photometrically(result.image, coloring);
  return result;
}

Size evaluation_size(Size from, const PipelineOptions& options, double scale) {
  if (options.test_scale) return fitted_size(from, *options.test_scale, scale);
  const auto scaled = [&](int64_t side) { return std::max<int64_t>(1, std::llround(double(side) * scale)); };
  return {scaled(from.height), scaled(from.width)};
}

Tensor prepare_image(const Image& image, const PipelineOptions& options, double scale) {
  check_size("prepare_image", image);
  const Size size = evaluation_size(size_of(image), options, scale);
  const auto normalized = [&](const Image& resized) {
    Tensor result = Tensor::empty({1, size.height, size.width, 3});
    normalize_into(resized, options, size, result.data<float>());
    return result;
  };
  return size == size_of(image) ? normalized(image) : normalized(resize_bilinear(image, size));
}

Tensor labels_tensor(const LabelMap& labels) {
  check_size("labels_tensor", labels);
  Tensor result = Tensor::empty({labels.height, labels.width}, DType::kUInt8);
  pad_labels_into(labels, size_of(labels), result.data<uint8_t>());
  return result;
}

Sample load_for_evaluation(const Dataset& dataset, int64_t index, const PipelineOptions& options) {
  const RawSample raw = load_checked(dataset, index);
  return {prepare_image(raw.image, options), labels_tensor(raw.labels), raw.name, index};
}

}  // namespace eq
