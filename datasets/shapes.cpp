#include "datasets/shapes.h"

#include <algorithm>
#include <cmath>

#include "core/errors.h"
#include "core/random.h"

namespace eq {
namespace {

// Lengths are in 1/256 of a pixel, unit vectors in 1/4096, angles in whole degrees, opacities in 1/256.
constexpr int kPixel = 256;
constexpr int kUnit = 4096;
constexpr uint64_t kStream = 0x5348415045533038;  // "SHAPES08"
constexpr uint64_t kNoiseTag = 1;

enum Class : uint8_t { kBackground, kRegion, kDisc, kSquare, kTriangle, kStroke, kDot, kTwin };

struct Rgb {
  int r, g, b;
};

int draw(Random& random, int low, int high) { return int(random.uniform_int(low, high + 1)); }  // both included

// The larger of two draws.
int draw_upper(Random& random, int low, int high) {
  const int first = draw(random, low, high);
  return std::max(first, draw(random, low, high));
}

Rgb draw_color(Random& random, Rgb center, int spread) {
  const int r = draw(random, -spread, spread), g = draw(random, -spread, spread), b = draw(random, -spread, spread);
  return {center.r + r, center.g + g, center.b + b};
}

// Bhaskara's rational approximation (7th century), exact to 0.2 %: a sine without floating point.
int sine(int degrees) {
  degrees = ((degrees % 360) + 360) % 360;
  const int x = degrees % 180, product = x * (180 - x);
  const int value = 4 * product * kUnit / (40500 - product);
  return degrees < 180 ? value : -value;
}
int cosine(int degrees) { return sine(degrees + 90); }

int integer_root(uint32_t value) {
  uint32_t root = 0;
  for (uint32_t bit = 1u << 30; bit != 0; bit >>= 2) {
    if (value >= root + bit) {
      value -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return int(root);
}

// Smooth noise in 0 .. 65280: random values every `period` pixels with smoothstep in between.
std::vector<int> smooth_noise(Random& random, int side, int period) {
  const int lattice_side = side / period + 2;
  std::vector<int> lattice(size_t(lattice_side) * lattice_side);
  for (int& value : lattice) value = int(random.next_u32() >> 24);
  std::vector<int> weight(side);
  for (int i = 0; i < side; ++i) {
    const int t = (i % period) * 256 / period;
    weight[i] = (t * t * (768 - 2 * t)) >> 16;
  }
  std::vector<int> result(size_t(side) * side);
  for (int y = 0; y < side; ++y) {
    const int* above = &lattice[size_t(y / period) * lattice_side];
    const int* below = above + lattice_side;
    for (int x = 0; x < side; ++x) {
      const int i = x / period, w = weight[x];
      const int top = above[i] * (256 - w) + above[i + 1] * w, bottom = below[i] * (256 - w) + below[i + 1] * w;
      result[size_t(y) * side + x] = (top * (256 - weight[y]) + bottom * weight[y]) >> 8;
    }
  }
  return result;
}

// noise in 0 .. 65280 -> -amplitude/2 .. amplitude/2
int centered(int noise, int amplitude) { return (noise - 32640) * amplitude / 65280; }

class Scene {
 public:
  Scene(Random random, int side, const ShapesDifficulty& difficulty)
      : random_(random), side_(side), difficulty_(difficulty) {
    sample_.image.height = sample_.image.width = sample_.labels.height = sample_.labels.width = side;
    color_.resize(size_t(side) * side);
    sample_.labels.labels.assign(size_t(side) * side, kBackground);
    coverage_.resize(size_t(side) * side);
  }

  RawSample paint() {
    warm_ = draw(random_, 0, 1) == 1;
    paint_background();
    paint_region();
    paint_shapes();
    const int strokes = draw(random_, 1, 2) + side_ / 48;
    for (int i = 0; i < strokes; ++i) paint_stroke();
    const int dots = side_ * side_ / 560 + draw(random_, -2, 4);
    for (int i = 0; i < dots; ++i) paint_dot();
    finish();
    return std::move(sample_);
  }

 private:
  size_t at(int x, int y) const { return size_t(y) * side_ + x; }
  void label(size_t pixel, uint8_t value) { sample_.labels.labels[pixel] = value; }
  void blend(size_t pixel, Rgb over, int opacity) {
    Rgb& c = color_[pixel];
    c.r += ((over.r - c.r) * opacity) >> 8;
    c.g += ((over.g - c.g) * opacity) >> 8;
    c.b += ((over.b - c.b) * opacity) >> 8;
  }

  void paint_background() {
    const int level = draw(random_, 105, 145), light = draw(random_, 10, 40), toward = draw(random_, 0, 359);
    const int tint = (warm_ ? 1 : -1) * draw(random_, 20, 30), greenish = draw(random_, -6, 6);
    const auto coarse = smooth_noise(random_, side_, side_ / 4), fine = smooth_noise(random_, side_, 5);
    const auto hue = smooth_noise(random_, side_, side_ / 5);
    for (int y = 0; y < side_; ++y) {
      for (int x = 0; x < side_; ++x) {
        const size_t i = at(x, y);
        const int along = ((2 * x - side_) * cosine(toward) + (2 * y - side_) * sine(toward)) / side_;  // -kUnit*1.4 .. 1.4
        const int gray = level + along * light / (2 * kUnit) + centered(coarse[i], 34) + centered(fine[i], 22);
        const int t = tint + centered(hue[i], 52);
        color_[i] = {gray + t, gray + greenish, gray - t};
      }
    }
  }

  void paint_region() {
    const auto coarse = smooth_noise(random_, side_, side_ / 2), medium = smooth_noise(random_, side_, side_ / 5);
    std::vector<int> height(coarse.size());
    std::vector<int> histogram(256);
    for (size_t i = 0; i < height.size(); ++i) {
      height[i] = (3 * coarse[i] + medium[i]) >> 10;  // 0 .. 255
      ++histogram[height[i]];
    }
    const int wanted = side_ * side_ * draw(random_, 10, 30) / 100;
    int threshold = 255, above = histogram[255];
    while (threshold > 0 && above + histogram[threshold - 1] <= wanted) above += histogram[--threshold];
    const int phase = draw(random_, 0, 5), slant = draw(random_, -2, 2);
    auto inside = [&](int x, int y) { return x >= 0 && y >= 0 && x < side_ && y < side_ && height[at(x, y)] >= threshold; };
    for (int y = 0; y < side_; ++y) {
      for (int x = 0; x < side_; ++x) {
        const size_t i = at(x, y);
        if (inside(x, y)) {
          const int ripple = ((4 * y + slant * x + 4 * phase) / 4 % 6 + 6) % 6 < 3 ? 7 : -7;
          Rgb& c = color_[i];
          c = {c.r - 16 + ripple, c.g + 24 + ripple, c.b - 16 + ripple};
          label(i, kRegion);
        } else if (inside(x - 1, y) || inside(x + 1, y) || inside(x, y - 1) || inside(x, y + 1)) {
          label(i, kIgnoreIndex);
        }
      }
    }
  }

  // Paints where distance(dx, dy), signed and in 1/256 of a pixel from the outline, is negative, with soft edges.
  // `ring` also labels the ring of one pixel outside as ignored.
  template <class Distance, class Color>
  void paint_filled(int cx, int cy, int reach, uint8_t value, bool ring, Distance distance, Color color) {
    const int x0 = std::max(0, (cx - reach) / kPixel - 2), x1 = std::min(side_ - 1, (cx + reach) / kPixel + 2);
    const int y0 = std::max(0, (cy - reach) / kPixel - 2), y1 = std::min(side_ - 1, (cy + reach) / kPixel + 2);
    for (int y = y0; y <= y1; ++y) {
      for (int x = x0; x <= x1; ++x) {
        const int dx = x * kPixel + kPixel / 2 - cx, dy = y * kPixel + kPixel / 2 - cy;
        const int d = distance(dx, dy);
        if (d >= kPixel) continue;
        const size_t i = at(x, y);
        if (d < kPixel / 2) blend(i, color(dx, dy), std::min(kPixel, kPixel / 2 - d));
        if (d <= 0) label(i, value);
        else if (ring) label(i, kIgnoreIndex);
      }
    }
  }

  void paint_shapes() {
    const int more = side_ * side_ / 4096;
    const int shapes = draw(random_, 2 + more, 5 + more);
    const int widest = std::min(40, side_ * 3 / 8);
    for (int s = 0; s < shapes; ++s) {
      const int kind = draw(random_, 0, 3);  // discs twice, because two classes share them
      const int cx = draw(random_, 0, side_ * kPixel), cy = draw(random_, 0, side_ * kPixel);
      const int width = draw(random_, 4 * kPixel, widest * kPixel), angle = draw(random_, 0, 359);
      const int c = cosine(angle), n = sine(angle);
      auto along = [](int dx, int dy, int ux, int uy) { return int((int64_t(dx) * ux + int64_t(dy) * uy) / kUnit); };
      if (kind <= 1) {
        const Rgb base = draw_color(random_, {190, 105, 185}, 30);
        const int radius = width / 2;
        auto distance = [&](int dx, int dy) { return integer_root(uint32_t(dx * dx + dy * dy)) - radius; };
        paint_filled(cx, cy, radius, warm_ ? kDisc : kTwin, true, distance, [&](int dx, int dy) {
          const int shine = std::max(-distance(dx, dy), 0) * 36 / radius - 12;
          return Rgb{base.r + shine, base.g + shine, base.b + shine};
        });
      } else if (kind == 2) {
        const Rgb base = draw_color(random_, {205, 190, 95}, 30);
        const int half = width * 7 / 16;
        auto distance = [&](int dx, int dy) {
          return std::max(std::abs(along(dx, dy, c, n)), std::abs(along(dx, dy, -n, c))) - half;
        };
        paint_filled(cx, cy, width, kSquare, true, distance, [&](int dx, int dy) {
          const int stripe = (along(dx, dy, c, n) + 1024 * kPixel) / (2 * kPixel) % 2 == 0 ? 14 : -14;
          return Rgb{base.r + stripe, base.g + stripe, base.b + stripe};
        });
      } else {
        const Rgb base = draw_color(random_, {70, 75, 150}, 30);
        const int inradius = width * 5 / 16;
        const int c1 = cosine(angle + 120), n1 = sine(angle + 120), c2 = cosine(angle + 240), n2 = sine(angle + 240);
        auto distance = [&](int dx, int dy) {
          return std::max({along(dx, dy, c, n), along(dx, dy, c1, n1), along(dx, dy, c2, n2)}) - inradius;
        };
        paint_filled(cx, cy, 2 * inradius, kTriangle, true, distance, [&](int dx, int dy) {
          const int shade = along(dx, dy, c, n) * 20 / inradius;
          return Rgb{base.r + shade, base.g + shade, base.b + shade};
        });
      }
    }
  }

  // A pen that moves half a pixel a step and turns smoothly.
  void paint_stroke() {
    constexpr int kAngle = 64;  // fractions of a degree
    const Rgb ink = draw_color(random_, {26, 24, 26}, 14);
    const int half = draw_upper(random_, kPixel / 2, kPixel);
    const int labelled = std::max(half, kPixel * 9 / 16);  // no gaps in diagonals one pixel wide
    int x = draw(random_, 0, side_ * kPixel), y = draw(random_, 0, side_ * kPixel);
    int angle = draw(random_, 0, 359) * kAngle, turn = 0;
    const int steps = 2 * side_ * draw(random_, 60, 130) / 100;
    std::fill(coverage_.begin(), coverage_.end(), uint16_t{0});
    for (int step = 0; step < steps; ++step) {
      if (step % 12 == 0) turn = draw(random_, -5 * kAngle, 5 * kAngle);
      angle += turn;
      x += cosine(angle / kAngle) * (kPixel / 2) / kUnit;
      y += sine(angle / kAngle) * (kPixel / 2) / kUnit;
      if (x < -2 * kPixel || y < -2 * kPixel || x > (side_ + 2) * kPixel || y > (side_ + 2) * kPixel) break;
      for (int py = std::max(0, y / kPixel - 2); py <= std::min(side_ - 1, y / kPixel + 2); ++py) {
        for (int px = std::max(0, x / kPixel - 2); px <= std::min(side_ - 1, x / kPixel + 2); ++px) {
          const int dx = px * kPixel + kPixel / 2 - x, dy = py * kPixel + kPixel / 2 - y;
          const int distance = integer_root(uint32_t(dx * dx + dy * dy));
          const int opacity = std::clamp(half + kPixel / 2 - distance, 0, kPixel);
          const size_t i = at(px, py);
          coverage_[i] = std::max(coverage_[i], uint16_t(opacity));
          if (distance <= labelled) label(i, kStroke);
        }
      }
    }
    for (size_t i = 0; i < coverage_.size(); ++i) {
      if (coverage_[i] != 0) blend(i, ink, coverage_[i]);
    }
  }

  void paint_dot() {
    const Rgb base = draw_color(random_, {240, 240, 235}, 12);
    const int cx = draw(random_, 0, side_ * kPixel), cy = draw(random_, 0, side_ * kPixel);
    const int radius = draw_upper(random_, kPixel, 2 * kPixel);
    auto distance = [&](int dx, int dy) { return integer_root(uint32_t(dx * dx + dy * dy)) - radius; };
    paint_filled(cx, cy, radius, kDot, false, distance, [&](int, int) { return base; });
  }

  // A box filter along one axis; pixels beyond the edge are those of the edge.
  void blur(int radius, int dx, int dy) {
    const std::vector<Rgb> before = color_;
    auto inside = [this](int at) { return std::clamp(at, 0, side_ - 1); };
    for (int y = 0; y < side_; ++y) {
      for (int x = 0; x < side_; ++x) {
        Rgb sum{0, 0, 0};
        for (int step = -radius; step <= radius; ++step) {
          const Rgb& c = before[at(inside(x + step * dx), inside(y + step * dy))];
          sum = {sum.r + c.r, sum.g + c.g, sum.b + c.b};
        }
        const int count = 2 * radius + 1;
        color_[at(x, y)] = {sum.r / count, sum.g / count, sum.b / count};
      }
    }
  }

  void lower_contrast(int share) {  // in 1/256
    auto lowered = [share](int value) { return 128 + (value - 128) * share / 256; };
    for (Rgb& c : color_) c = {lowered(c.r), lowered(c.g), lowered(c.b)};
  }

  void add_noise(int amplitude) {
    Random random = random_.fork(kNoiseTag);  // the scene's own draws stay what they are without noise
    for (Rgb& c : color_) c = draw_color(random, c, amplitude);
  }

  // What makes it harder, grain over everything, and 8 bits.
  void finish() {
    if (difficulty_.blur > 0) {
      blur(int(difficulty_.blur), 1, 0);
      blur(int(difficulty_.blur), 0, 1);
    }
    if (difficulty_.contrast < 1) lower_contrast(int(std::lround(difficulty_.contrast * 256)));
    if (difficulty_.noise > 0) add_noise(int(difficulty_.noise));
    sample_.image.pixels.resize(3 * color_.size());
    uint8_t* out = sample_.image.pixels.data();
    for (const Rgb& c : color_) {
      const uint32_t bits = random_.next_u32();
      *out++ = uint8_t(std::clamp(c.r + int(bits & 15) - 7, 0, 255));
      *out++ = uint8_t(std::clamp(c.g + int(bits >> 8 & 15) - 7, 0, 255));
      *out++ = uint8_t(std::clamp(c.b + int(bits >> 16 & 15) - 7, 0, 255));
    }
  }

  Random random_;
  int side_;
  const ShapesDifficulty& difficulty_;
  bool warm_ = false;
  RawSample sample_;
  std::vector<Rgb> color_;
  std::vector<uint16_t> coverage_;
};

uint64_t tag_of(const std::string& split) {
  if (split == "train") return 0;
  if (split == "val") return 1;
  if (split == "test") return 2;
  throw UsageError("the built-in shapes have no split '" + split + "'", "data.type shapes", "use train, val or test");
}

std::array<uint8_t, 256> labels_as_written(const std::string& wrong) {
  std::array<uint8_t, 256> written;
  for (size_t value = 0; value < 256; ++value) written[value] = uint8_t(value);
  if (wrong == "shift") {
    for (int c = kBackground; c <= kTwin; ++c) written[size_t(c)] = uint8_t(c + 1);
  } else if (wrong == "binary") {
    for (int c = kRegion; c <= kTwin; ++c) written[size_t(c)] = 255;
  } else if (wrong == "swapped") {  // where the palette's nearest colour lies once red and blue are exchanged
    std::swap(written[kSquare], written[kTwin]);
    std::swap(written[kTriangle], written[kStroke]);
  } else if (!wrong.empty()) {
    throw UsageError("there are no wrong labels '" + wrong + "'", "data.wrong_labels", "use shift, binary, swapped or nothing");
  }
  return written;
}

void check_difficulty(const ShapesDifficulty& difficulty) {
  auto require = [](bool ok, const char* key, const char* range) {
    if (!ok) throw UsageError(std::string("the value must be ") + range, std::string("data.difficulty.") + key, "correct it");
  };
  require(difficulty.noise >= 0 && difficulty.noise <= 128, "noise", "0 to 128");
  require(difficulty.contrast >= 0.05 && difficulty.contrast <= 1, "contrast", "0.05 to 1");
  require(difficulty.blur >= 0 && difficulty.blur <= 8, "blur", "0 to 8");
}

}  // namespace

ShapesDataset::ShapesDataset(uint64_t seed, const std::string& split, int64_t size, int64_t count, const DataOptions& options)
    : Dataset({"background", "region", "disc", "square", "triangle", "stroke", "dot", "twin"},
              {{90, 90, 90}, {60, 160, 75}, {200, 70, 190}, {225, 190, 50}, {70, 90, 210}, {230, 60, 40}, {240, 240, 240},
               {60, 200, 210}}),
      seed_(seed), split_(split), split_tag_(tag_of(split)), side_(size), count_(count),
      difficulty_(options.difficulty), written_(labels_as_written(options.wrong_labels)),
      mapper_(options.label_map, num_classes()) {
  check_difficulty(difficulty_);
  if (!options.classes.empty() || !options.palette.empty()) {
    throw UsageError("the built-in shapes have classes and colours of their own", options.classes.empty() ? "data.palette" : "data.classes",
                     "leave it out, or set data.type to what your files are: folders, camvid, ...");
  }
  if (size < 64 || size > 256) {
    throw UsageError("the shapes' side must be 64 to 256 pixels, not " + std::to_string(size), "data.size", "use 96");
  }
  if (count < 1) {
    throw UsageError("the shapes' split '" + split + "' would have " + std::to_string(count) + " samples",
                     "data.train_images, data.val_images", "give at least 1 (train_images 0 means endless)");
  }
}

RawSample ShapesDataset::written(int64_t index) const {
  check_index(index);
  RawSample sample = Scene(Random(seed_, kStream).fork(split_tag_).fork(uint64_t(index)), int(side_), difficulty_).paint();
  sample.name = std::to_string(index);
  for (uint8_t& value : sample.labels.labels) value = written_[value];
  return sample;
}

RawSample ShapesDataset::load(int64_t index) const {
  RawSample sample = written(index);
  mapper_.map_or_throw(sample.labels, describe(index));
  return sample;
}

LabelMap ShapesDataset::load_file_labels(int64_t index) const { return written(index).labels; }

std::string ShapesDataset::describe(int64_t index) const { return "shapes " + split_ + " " + std::to_string(index); }

std::unique_ptr<Dataset> make_shapes(const DataOptions& options, const std::string& split) {
  int64_t count = options.val_images;
  if (split == "train") count = options.train_images == 0 ? Dataset::kEndless : options.train_images;
  return std::make_unique<ShapesDataset>(kShapesSeed, split, options.size, count, options);
}

}  // namespace eq
