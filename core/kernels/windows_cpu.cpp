#include "core/kernels/windows.h"

#include <cstring>

#include "core/parallel.h"

namespace eq::cpu {

void split_windows(const Tensor& image, const WindowGrid& grid, Tensor& windows) {
  const int64_t bytes = image.size(3) * int64_t(size_of(image.dtype()));
  const char* from = static_cast<const char*>(image.raw_data());
  char* to = static_cast<char*>(windows.raw_data());
  parallel_for(image.size(0) * grid.h.cells(), grain_for(grid.w.cells() * bytes, 1 << 18), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t n = line / grid.h.cells(), i = line % grid.h.cells(), p = grid.h.pixel(i);
      for (int64_t j = 0; j < grid.w.cells(); ++j) {
        const int64_t q = grid.w.pixel(j);
        char* cell = to + grid.row(n, i, j) * bytes;
        if (p < grid.h.extent && q < grid.w.extent) {
          std::memcpy(cell, from + ((n * grid.h.extent + p) * grid.w.extent + q) * bytes, size_t(bytes));
        } else {
          std::memset(cell, 0, size_t(bytes));
        }
      }
    }
  });
}

void join_windows(const Tensor& windows, const WindowGrid& grid, Tensor& image) {
  const int64_t bytes = image.size(3) * int64_t(size_of(image.dtype()));
  const char* from = static_cast<const char*>(windows.raw_data());
  char* to = static_cast<char*>(image.raw_data());
  parallel_for(image.size(0) * grid.h.extent, grain_for(grid.w.extent * bytes, 1 << 18), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t n = line / grid.h.extent, i = grid.h.cell(line % grid.h.extent);
      for (int64_t q = 0; q < grid.w.extent; ++q) {
        std::memcpy(to + (line * grid.w.extent + q) * bytes, from + grid.row(n, i, grid.w.cell(q)) * bytes, size_t(bytes));
      }
    }
  });
}

}  // namespace eq::cpu
