// distort_photometrically (datasets/transforms.h).
#include <algorithm>
#include <array>

#include "core/random.h"
#include "datasets/transforms.h"

namespace eq {
namespace {

void apply_table(Image& image, const std::array<uint8_t, 256>& table) {
  for (uint8_t& value : image.pixels) value = table[value];
}

template <class Fn>
std::array<uint8_t, 256> table_of(Fn fn) {
  std::array<uint8_t, 256> table;
  for (int value = 0; value < 256; ++value) table[size_t(value)] = uint8_t(std::clamp(fn(double(value)), 0.0, 255.0));
  return table;
}

// Some pixels, channel by channel, so that the compiler works on a register of them at a time.
struct Pixels {
  static constexpr int64_t kCount = 64;
  float r[kCount], g[kCount], b[kCount];
};

// Calls fn(pixels) for each 64 pixels of a picture, and takes what it makes of them, cut to whole numbers.
template <class Fn>
void for_pixels(Image& image, const Fn& fn) {
  constexpr int64_t kCount = Pixels::kCount;
  uint8_t buffer[3 * kCount] = {};
  Pixels pixels;
  const int64_t total = image.height * image.width;
  for (int64_t first = 0; first < total; first += kCount) {
    uint8_t* part = image.pixels.data() + 3 * first;
    const int64_t count = std::min(kCount, total - first);
    std::copy_n(part, 3 * count, buffer);
    for (int64_t i = 0; i < kCount; ++i) {
      pixels.r[i] = buffer[3 * i];
      pixels.g[i] = buffer[3 * i + 1];
      pixels.b[i] = buffer[3 * i + 2];
    }
    fn(pixels);
    for (int64_t i = 0; i < kCount; ++i) {
      buffer[3 * i] = uint8_t(int(pixels.r[i]));
      buffer[3 * i + 1] = uint8_t(int(pixels.g[i]));
      buffer[3 * i + 2] = uint8_t(int(pixels.b[i]));
    }
    std::copy_n(buffer, 3 * count, part);
  }
}

// In the HSV cone a channel is v - (v - min) * k with k fixed by the hue: multiplying the saturation multiplies v -
// channel, up to where it reaches v.
void scale_saturation(Image& image, float factor) {
  for_pixels(image, [factor](Pixels& p) {
    for (int64_t i = 0; i < Pixels::kCount; ++i) {
      const float r = p.r[i], g = p.g[i], b = p.b[i];
      const float v = std::max(r, std::max(g, b)), chroma = v - std::min(r, std::min(g, b));
      const float f = std::min(factor, v / std::max(chroma, 1.0f));
      p.r[i] = v - (v - r) * f;
      p.g[i] = v - (v - g) * f;
      p.b[i] = v - (v - b) * f;
    }
  });
}

// `turn` in sixths of the circle.
void turn_hue(Image& image, float turn) {
  for_pixels(image, [turn](Pixels& p) {
    for (int64_t i = 0; i < Pixels::kCount; ++i) {
      const float r = p.r[i], g = p.g[i], b = p.b[i];
      const float v = std::max(r, std::max(g, b)), chroma = v - std::min(r, std::min(g, b));
      const float scale = 1.0f / std::max(chroma, 1.0f);
      const float of_red = (g - b) * scale, of_green = 2 + (b - r) * scale, of_blue = 4 + (r - g) * scale;
      const float hue = (v == r ? of_red : v == g ? of_green : of_blue) + (turn + 6);  // within 4 .. 12
      // channel = v - chroma * clamp(min(k, 4 - k), 0, 1), k = (n + hue) mod 6, n = 5, 3, 1 for R, G, B.
      const auto channel = [&](float n) {
        float k = hue + n;
        k -= k >= 12 ? 12.0f : k >= 6 ? 6.0f : 0.0f;
        return v - chroma * std::clamp(std::min(k, 4 - k), 0.0f, 1.0f) + 0.5f;
      };
      p.r[i] = channel(5);
      p.g[i] = channel(3);
      p.b[i] = channel(1);
    }
  });
}

}  // namespace

void distort_photometrically(Image& image, Random& random) {
  check_size("distort_photometrically", image);
  auto contrast = [&] {
    if (!random.bernoulli(0.5)) return;
    const double factor = random.uniform(0.5, 1.5);
    apply_table(image, table_of([&](double value) { return value * factor; }));
  };
  if (random.bernoulli(0.5)) {
    const double offset = random.uniform(-32, 32);
    apply_table(image, table_of([&](double value) { return value + offset; }));
  }
  const bool contrast_first = random.bernoulli(0.5);
  if (contrast_first) contrast();
  if (random.bernoulli(0.5)) scale_saturation(image, float(random.uniform(0.5, 1.5)));
  if (random.bernoulli(0.5)) turn_hue(image, float(random.uniform_int(-18, 18)) / 30.0f);
  if (!contrast_first) contrast();
}

}  // namespace eq
