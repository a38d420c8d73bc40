// Lesson 5: convolution three ways.
//
// A convolution slides a small window of weights over the picture. Each output is the sum of products under it:
//
//   y[p, q, o] = sum over r, s, c of  x[p + r - 1, q + s - 1, c] * w[o, r, s, c]            (3x3, one pixel of padding)
//
// 1. Loops: the formula as it stands. Six nested loops, one multiply-add at a time.
// 2. im2col: write the 3x3xC values under the window of every pixel into one row of a matrix. Then all outputs are
//    one matrix product, [pixels, 9 C] x [9 C, O], and the best-tuned routine of any library does the work. The price
//    is memory: the matrix is nine times the picture.
// 3. Direct: the library's own kernel walks the picture as the loops do, but keeps a strip of it in the processor's
//    cache and a tile of outputs in its vector registers, so that each value loaded is used many times. No matrix is
//    made.
//
// These three do the same 9 C O multiply-adds a pixel; what differs is how often memory is touched. For comparison:
//
// - Winograd's algorithm, which the library chooses where it is cheaper. In another basis, 4x4 outputs of a channel
//   pair take 36 products instead of 144; changing the bases costs additions, which pay where channels are many. Its
//   row counts the multiply-adds of the formula as well, although it does fewer.
// - On a GPU, cuDNN picks one of a dozen algorithms for the shape. Built with both, this program runs it as well.
//
// All give the same numbers up to rounding, because they add in different orders (lesson 6 says more).
//
// What a convolution sees: two fixed 3x3 filters, the horizontal and the vertical difference of Sobel, find the edges
// of a scene. A network learns such filters by itself, and some thousand others.
//
// Exercise: give all three ways a stride of 2 (the window jumps two pixels; the result has half the height and
// width).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>

#include "autograd/functional.h"
#include "core/cuda_device.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/kernels/conv2d.h"
#include "core/random.h"
#include "datasets/shapes.h"

using namespace eq;

constexpr int64_t kSide = 64, kIn = 16, kOut = 32;

Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Tensor tensor = Tensor::empty(shape);
  Random random(seed);
  for (int64_t i = 0; i < tensor.numel(); ++i) tensor.data<float>()[i] = float(random.normal());
  return tensor;
}

Tensor by_loops(const Tensor& x, const Tensor& w) {
  Tensor y = Tensor::zeros({1, kSide, kSide, kOut});
  const float *in = x.data<float>(), *weight = w.data<float>();
  float* out = y.data<float>();
  for (int64_t p = 0; p < kSide; ++p)
    for (int64_t q = 0; q < kSide; ++q)
      for (int64_t o = 0; o < kOut; ++o)
        for (int64_t r = 0; r < 3; ++r)
          for (int64_t s = 0; s < 3; ++s) {
            const int64_t row = p + r - 1, column = q + s - 1;
            if (row < 0 || row >= kSide || column < 0 || column >= kSide) continue;  // the padding is zero
            const float *pixel = in + (row * kSide + column) * kIn, *window = weight + ((o * 3 + r) * 3 + s) * kIn;
            for (int64_t c = 0; c < kIn; ++c) out[(p * kSide + q) * kOut + o] += pixel[c] * window[c];
          }
  return y;
}

Tensor by_im2col(const Tensor& x, const Tensor& w) {
  Tensor columns = Tensor::zeros({kSide * kSide, 9 * kIn});
  for (int64_t p = 0; p < kSide; ++p)
    for (int64_t q = 0; q < kSide; ++q)
      for (int64_t r = 0; r < 3; ++r)
        for (int64_t s = 0; s < 3; ++s) {
          const int64_t row = p + r - 1, column = q + s - 1;
          if (row < 0 || row >= kSide || column < 0 || column >= kSide) continue;
          std::copy_n(x.data<float>() + (row * kSide + column) * kIn, kIn,
                      columns.data<float>() + (p * kSide + q) * 9 * kIn + (r * 3 + s) * kIn);
        }
  // The weights [O, 3, 3, C] are the matrix [O, 9 C] already: linear() multiplies by its transpose.
  return reshape(linear(columns, reshape(w, {kOut, 9 * kIn})), {1, kSide, kSide, kOut});
}

// Runs it several times; prints the shortest time and the largest difference from `expected`.
double compare(const char* name, const std::function<Tensor()>& way, const Tensor& expected) {
  double best = 1e9, worst = 0;
  Tensor y;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    y = way();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  for (int64_t i = 0; i < expected.numel(); ++i) {
    worst = std::max(worst, std::abs(y.value_at(i) - expected.value_at(i)));
  }
  const double operations = 2.0 * kSide * kSide * kOut * 9 * kIn;
  std::printf("%-22s %8.2f ms  %6.1f GFLOP/s  difference %.1e\n", name, 1e3 * best, operations / best / 1e9, worst);
  return worst;
}

// 0 where there is no GPU or no cuDNN.
double compare_on_gpu(const Tensor& x, const Tensor& w, const Tensor& expected) {
  if constexpr (kBuiltWithCuda) {
    try {
      cuda::set_convolution_backend(cuda::ConvolutionBackend::kCudnn);  // of itself the library uses its own in float32
      const Device gpu = Device::parse("cuda");
      auto on_gpu = [&] { return conv2d(x.to(gpu), w.to(gpu), {}, Conv2dOptions().padding(1)).to(Device::cpu()); };
      return compare("cuDNN, with copies", on_gpu, expected);
    } catch (const Error& error) {
      std::printf("%-22s left out: %s\n", "cuDNN", error.what_happened().c_str());
    }
  } else {
    std::printf("%-22s left out: this build has no CUDA backend\n", "cuDNN");
  }
  return 0;
}

void draw_edges(const std::string& path) {
  const Image picture = ShapesDataset(kShapesSeed, "val", 160, 1).load(0).image;
  const int64_t side = picture.height;
  Tensor gray = Tensor::zeros({1, side, side, 1});
  for (int64_t i = 0; i < gray.numel(); ++i) {
    for (int64_t c = 0; c < 3; ++c) gray.data<float>()[i] += float(picture.pixels[size_t(3 * i + c)]) / 3;
  }
  const auto sobel = Tensor::from<float>({-1, 0, 1, -2, 0, 2, -1, 0, 1, -1, -2, -1, 0, 0, 0, 1, 2, 1}, {2, 3, 3, 1});
  const Tensor slopes = conv2d(gray, sobel, {}, Conv2dOptions().padding(1));  // across, down
  const Tensor strength = sqrt(sum(square(slopes), {-1}));
  Image edges{side, side, {}};
  for (float value : strength.to_vector<float>()) {
    edges.pixels.insert(edges.pixels.end(), 3, uint8_t(std::min(255.0f, value)));
  }
  write_png(path, side_by_side({picture, edges}));
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  const Tensor x = random_tensor({1, kSide, kSide, kIn}, 1), w = random_tensor({kOut, 3, 3, kIn}, 2);
  const auto options = Conv2dOptions().padding(1);
  std::printf("3x3 convolution of %s with %s\n", to_string(x.shape()).c_str(), to_string(w.shape()).c_str());
  const Tensor expected = by_loops(x, w);
  double worst = compare("loops", [&] { return by_loops(x, w); }, expected);
  worst = std::max(worst, compare("im2col and a product", [&] { return by_im2col(x, w); }, expected));
  for (const bool winograd : {false, true}) {
    cpu::allow_winograd(winograd);
    const char* name = winograd ? "Winograd's algorithm" : "direct kernel";
    worst = std::max(worst, compare(name, [&] { return conv2d(x, w, {}, options); }, expected));
  }
  worst = std::max(worst, compare_on_gpu(x, w, expected));
  draw_edges(folder + "/05_edges.png");
  const bool ok = worst < 1e-3;  // sums of 144 products of size 1: rounding in float32 is some 1e-6 of them
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
