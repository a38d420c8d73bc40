// A thread per pack of channels of the result.

#include "core/kernels/windows.h"

#include "cuda/bytes.h"
#include "cuda/divide.h"
#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

template <class E, int N>
struct SplitWindows {
  const E* image;
  E* windows;
  WindowAxis h, w;
  Divider packs, size, columns, rows;  // packs: of a pixel; columns and rows: of windows
  EQ_HOST_DEVICE void operator()(int64_t at) const {
    int64_t rest = at;
    const int64_t pack = packs.split(rest), s = size.split(rest), r = size.split(rest);
    const int64_t j = columns.split(rest) * w.size + s, i = rows.split(rest) * h.size + r, p = h.pixel(i), q = w.pixel(j);
    Pack<E, N> values{};
    if (p < h.extent && q < w.extent) {
      values = load_pack<E, N>(image + (((rest * h.extent + p) * w.extent + q) * packs.divisor() + pack) * N);
    }
    store_pack(windows + at * N, values);
  }
};

template <class E, int N>
struct JoinWindows {
  const E* windows;
  E* image;
  WindowAxis h, w;
  Divider packs, size, width, height;
  EQ_HOST_DEVICE void operator()(int64_t at) const {
    int64_t rest = at;
    const int64_t pack = packs.split(rest);
    int64_t j = w.cell(width.split(rest)), i = h.cell(height.split(rest));  // cells, then their windows
    const int64_t s = size.split(j), r = size.split(i), row = (((rest * h.count + i) * w.count + j) * h.size + r) * w.size + s;
    store_pack(image + at * N, load_pack<E, N>(windows + (row * packs.divisor() + pack) * N));
  }
};

}  // namespace

void split_windows(const Tensor& image, const WindowGrid& grid, Tensor& windows) {
  if (windows.numel() == 0) return;
  with_element_of(image.dtype(), [&]<class E>() {
    const E* in = static_cast<const E*>(image.raw_data());
    E* out = static_cast<E*>(windows.raw_data());
    with_pack<E>(
        image.size(3),
        [&]<int N>() {
          for_each(image.device(), "split_windows", windows.numel() / N,
                   SplitWindows<E, N>{in, out, grid.h, grid.w, Divider(image.size(3) / N), Divider(grid.h.size), Divider(grid.w.count),
                                      Divider(grid.h.count)});
        },
        in, out);
  });
}

void join_windows(const Tensor& windows, const WindowGrid& grid, Tensor& image) {
  if (image.numel() == 0) return;
  with_element_of(image.dtype(), [&]<class E>() {
    const E* in = static_cast<const E*>(windows.raw_data());
    E* out = static_cast<E*>(image.raw_data());
    with_pack<E>(
        image.size(3),
        [&]<int N>() {
          for_each(image.device(), "join_windows", image.numel() / N,
                   JoinWindows<E, N>{in, out, grid.h, grid.w, Divider(image.size(3) / N), Divider(grid.h.size), Divider(grid.w.extent),
                                     Divider(grid.h.extent)});
        },
        in, out);
  });
}

}  // namespace eq::cuda
