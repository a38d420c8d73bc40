// Tables of taps and reaches, kept per device for the pairs of extents that were asked for last.

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/kernels/bilinear_cuda.h"
#include "cuda/per_device.h"

namespace eq::cuda {
namespace {

constexpr size_t kMostTables = 512;  // pictures of many sizes must not fill the memory

template <class W>
AxisTap<W> tap_of(int64_t position, int64_t in, int64_t out, Reading reading) {
  if (reading == Reading::kNearest) return {int(nearest_source(position, in, out)), W(1), W(0)};
  const BilinearSource s = bilinear_source(position, in, out, reading == Reading::kAlignedCorners);
  return {int(s.lower), W(1 - s.upper_weight), W(s.upper_weight)};
}

template <class W>
AxisReach<W> reach_of(int64_t cell, int64_t in, int64_t out, Reading reading) {
  if (reading == Reading::kNearest) {
    const int64_t begin = nearest_begin(cell, in, out);
    return {int(begin), int(nearest_begin(cell + 1, in, out) - begin), W(0), W(0), W(0), W(0)};
  }
  const bool align_corners = reading == Reading::kAlignedCorners;
  const int64_t begin = bilinear_begin(cell, in, out, align_corners), end = bilinear_end(cell, in, out, align_corners);
  const BilinearCoordinate s = bilinear_coordinate(begin, in, out, align_corners);
  const W step = !align_corners ? W(double(in) / double(out)) : out == 1 ? W(0) : W(double(in - 1) / double(out - 1));
  return {int(begin),
          int(std::max<int64_t>(0, end - begin)),
          W(double(s.numerator - cell * s.denominator) / double(s.denominator)),
          W(cell == 0 ? 0 : -1),
          W(cell == in - 1 ? 0 : 1),
          step};
}

struct Key {
  int64_t in, out;
  Reading reading;
  DType dtype;
  auto operator<=>(const Key&) const = default;
};

struct Table {
  Tensor memory;
  int most_reads = 0;
};

struct Tables {
  explicit Tables(Device) {}
  std::mutex mutex;
  std::map<Key, Table> memory;
};

template <class W>
Table make_table(Device device, int64_t in, int64_t out, Reading reading) {
  const int64_t taps = out * int64_t(sizeof(AxisTap<W>)), bytes = taps + in * int64_t(sizeof(AxisReach<W>));
  Table table = {Tensor::empty({bytes}, DType::kUInt8)};
  auto* tap = reinterpret_cast<AxisTap<W>*>(table.memory.raw_data());
  auto* reach = reinterpret_cast<AxisReach<W>*>(static_cast<char*>(table.memory.raw_data()) + taps);
  for (int64_t i = 0; i < out; ++i) tap[i] = tap_of<W>(i, in, out, reading);
  for (int64_t i = 0; i < in; ++i) {
    reach[i] = reach_of<W>(i, in, out, reading);
    table.most_reads = std::max(table.most_reads, reach[i].count);
  }
  table.memory = table.memory.to(device);
  return table;
}

}  // namespace

template <class W>
Axis<W> axis_of(Device device, int64_t in, int64_t out, Reading reading) {
  Tables& tables = per_device<Tables>(device);
  std::lock_guard lock(tables.mutex);
  const Key key{in, out, reading, dtype_of<W>::value};
  auto found = tables.memory.find(key);
  if (found == tables.memory.end()) {
    if (tables.memory.size() >= kMostTables) tables.memory.clear();
    found = tables.memory.emplace(key, make_table<W>(device, in, out, reading)).first;
  }
  const Table& table = found->second;
  const char* begin = static_cast<const char*>(table.memory.raw_data());
  return {table.memory, reinterpret_cast<const AxisTap<W>*>(begin),
          reinterpret_cast<const AxisReach<W>*>(begin + out * int64_t(sizeof(AxisTap<W>))), table.most_reads};
}

template Axis<float> axis_of(Device, int64_t, int64_t, Reading);
template Axis<double> axis_of(Device, int64_t, int64_t, Reading);

}  // namespace eq::cuda
