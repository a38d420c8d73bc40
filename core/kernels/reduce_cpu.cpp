#include "core/kernels/reduce.h"

#include <limits>

#include "core/kernels/elementwise.h"
#include "core/kernels/permute.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kChunk = 1 << 15;  // elements a task adds up
constexpr int64_t kBlock = 1024;     // columns a task adds up side by side: their totals stay in L1
constexpr int kLanes = 16;

// x seen as [outer, count, inner], the middle axis reduced.
struct Extents {
  int64_t outer = 1, count = 1, inner = 1;
};

Extents extents_around(const Shape& shape, int axis) {
  return {shape.product(0, axis), shape[axis], shape.product(axis + 1, shape.rank())};
}

// False if the reduced axes are not neighbours (axes of one element do not matter).
bool find_extents(const Shape& shape, AxisMask mask, Extents& extents) {
  extents = {};
  int stage = 0;  // before, in, behind the reduced axes
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == 1) continue;
    const bool reduced = (mask >> axis & 1) != 0;
    if (reduced && stage == 2) return false;
    stage = reduced ? 1 : stage == 1 ? 2 : stage;
    (stage == 0 ? extents.outer : stage == 1 ? extents.count : extents.inner) *= shape[axis];
  }
  return true;
}

// A copy with the reduced axes moved to the end.
Tensor reduced_last(const Tensor& x, AxisMask mask, Extents& extents) {
  std::vector<int> axes;
  for (const bool reduced : {false, true}) {
    for (int axis = 0; axis < x.rank(); ++axis) {
      if (((mask >> axis & 1) != 0) == reduced) axes.push_back(axis);
    }
  }
  Tensor moved = Tensor::empty(permuted_shape(x.shape(), axes), x.dtype(), x.device());
  permute(x, axes, moved);
  extents = {x.numel() / reduced_count(x.shape(), mask), reduced_count(x.shape(), mask), 1};
  return moved;
}

// What is added up: the values, or the squares of their distances from a centre.
struct Value {
  static double of(double x, double) { return x; }
};
struct SquaredDistance {
  static double of(double x, double centre) { return (x - centre) * (x - centre); }
};

template <class Term, class T>
double row_total(const T* x, int64_t count, double centre) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += Term::of(double(x[i + lane]), centre);
  }
  for (int lane = 0; i + lane < count; ++lane) lanes[lane] += Term::of(double(x[i + lane]), centre);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

// totals[c] += the column sums of `rows` rows of `width` values, `stride` apart.
template <class Term, class T>
void column_totals(const T* x, int64_t rows, int64_t stride, int64_t width, const double* centre, double* totals) {
  for (int64_t row = 0; row < rows; ++row) {
    const T* values = x + row * stride;
    for (int64_t c = 0; c < width; ++c) totals[c] += Term::of(double(values[c]), centre == nullptr ? 0 : centre[c]);
  }
}

// The same for rows that follow each other and are too narrow to fill vectors: several rows are added side by side,
// then folded into one.
template <class Term, class T>
void narrow_column_totals(const T* x, int64_t rows, int64_t width, const double* centre, double* totals) {
  constexpr int64_t kWide = 64;
  const int64_t together = kWide / width;
  double wide[kWide] = {}, wide_centre[kWide] = {};
  for (int64_t c = 0; centre != nullptr && c < together * width; ++c) wide_centre[c] = centre[c % width];
  const int64_t whole = rows / together;
  column_totals<Term>(x, whole, together * width, together * width, wide_centre, wide);
  column_totals<Term>(x + whole * together * width, 1, 0, (rows - whole * together) * width, wide_centre, wide);
  for (int64_t c = 0; c < together * width; ++c) totals[c % width] += wide[c];
}

// The total of each output, [outer * inner], in double; centres likewise or null.
template <class Term, class T>
std::vector<double> reduce_totals(const T* x, const Extents& e, const double* centres) {
  const int64_t outputs = e.outer * e.inner;
  const int64_t blocks = (e.inner + kBlock - 1) / kBlock;
  const int64_t rows = std::max<int64_t>(1, kChunk / std::min(e.inner, kBlock));  // rows per chunk
  const int64_t chunks = std::max<int64_t>(1, (e.count + rows - 1) / rows);
  std::vector<double> parts(size_t(chunks * outputs), 0.0);
  const int64_t work = std::min(rows, e.count) * std::min(e.inner, kBlock);
  parallel_for(e.outer * chunks * blocks, grain_for(work, kChunk), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t block = task % blocks, chunk = task / blocks % chunks, outer = task / blocks / chunks;
      const int64_t row_begin = chunk * rows, row_end = std::min(e.count, row_begin + rows);
      const int64_t column = block * kBlock, width = std::min(kBlock, e.inner - column);
      const T* values = x + (outer * e.count + row_begin) * e.inner + column;
      const double* centre = centres == nullptr ? nullptr : centres + outer * e.inner + column;
      double* part = parts.data() + chunk * outputs + outer * e.inner + column;
      if (e.inner == 1) {
        *part = row_total<Term>(values, row_end - row_begin, centre == nullptr ? 0 : *centre);
      } else if (e.inner <= 32) {
        narrow_column_totals<Term>(values, row_end - row_begin, e.inner, centre, part);
      } else {
        column_totals<Term>(values, row_end - row_begin, e.inner, width, centre, part);
      }
    }
  });
  if (chunks > 1) {
    parallel_for(outputs, grain_for(chunks), [&](int64_t begin, int64_t end) {
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        for (int64_t i = begin; i < end; ++i) parts[i] += parts[chunk * outputs + i];
      }
    });
    parts.resize(size_t(outputs));
  }
  return parts;
}

template <class T>
void store_scaled(const std::vector<double>& totals, double factor, T* out) {
  for (size_t i = 0; i < totals.size(); ++i) out[i] = T(totals[i] * factor);
}

// The first place of the largest value of a row. Two passes, both without a branch on the data that would stop the
// compiler from vectorising the first.
template <class T>
int64_t place_of_max(const T* row, int64_t count) {
  T lanes[kLanes];
  bool nan = false;
  std::fill(lanes, lanes + kLanes, row[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const T value = row[i + lane];
      nan |= value != value;
      lanes[lane] = value > lanes[lane] ? value : lanes[lane];
    }
  }
  T largest = lanes[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = lanes[lane] > largest ? lanes[lane] : largest;
  for (; i < count; ++i) {
    nan |= row[i] != row[i];
    largest = row[i] > largest ? row[i] : largest;
  }
  int64_t place = 0;
  while (nan ? row[place] == row[place] : row[place] != largest) ++place;
  return place;
}

template <class T>
void max_of_rows(const T* x, const Extents& e, T* values, int64_t* places) {
  parallel_for(e.outer, grain_for(e.count), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      places[row] = place_of_max(x + row * e.count, e.count);
      if (values != nullptr) values[row] = x[row * e.count + places[row]];
    }
  });
}

// Place is as wide as T where the extent allows, so that values and places fill the same vectors.
template <class Place, class T>
void max_of_columns(const T* x, const Extents& e, T* values, int64_t* places) {
  constexpr int64_t kColumns = 256;
  const int64_t blocks = (e.inner + kColumns - 1) / kColumns;
  parallel_for(e.outer * blocks, grain_for(e.count * std::min(e.inner, kColumns)), [=](int64_t begin, int64_t end) {
    T best[kColumns];
    Place place[kColumns];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t outer = task / blocks, column = task % blocks * kColumns;
      const int64_t width = std::min(kColumns, e.inner - column), at = outer * e.inner + column;
      const T* first = x + outer * e.count * e.inner + column;
      std::copy(first, first + width, best);
      std::fill(place, place + width, Place(0));
      for (int64_t r = 1; r < e.count; ++r) {
        const T* row = first + r * e.inner;
        for (int64_t c = 0; c < width; ++c) {
          const bool better = !(row[c] <= best[c]) & (best[c] == best[c]);  // larger, or the first NaN
          best[c] = better ? row[c] : best[c];
          place[c] = better ? Place(r) : place[c];
        }
      }
      std::copy(place, place + width, places + at);
      if (values != nullptr) std::copy(best, best + width, values + at);
    }
  });
}

}  // namespace

void sum(const Tensor& x, AxisMask axes, double factor, Tensor& y) {
  if (x.numel() == 0) {
    y.fill_(0);
    return;
  }
  Extents extents;
  const Tensor source = find_extents(x.shape(), axes, extents) ? x : reduced_last(x, axes, extents);
  dispatch_floating(x.dtype(), "sum", [&]<typename T>() {
    store_scaled(reduce_totals<Value>(source.data<T>(), extents, nullptr), factor, y.data<T>());
  });
}

void variance(const Tensor& x, AxisMask axes, double divisor, Tensor& y, Tensor& mean) {
  if (x.numel() == 0) return;
  Extents extents;
  const Tensor source = find_extents(x.shape(), axes, extents) ? x : reduced_last(x, axes, extents);
  dispatch_floating(x.dtype(), "var", [&]<typename T>() {
    double* centres = mean.data<double>();
    store_scaled(reduce_totals<Value>(source.data<T>(), extents, nullptr), 1 / double(extents.count), centres);
    store_scaled(reduce_totals<SquaredDistance>(source.data<T>(), extents, centres), 1 / divisor, y.data<T>());
  });
}

void variance_backward(const Tensor& grad_y, const Tensor& x, AxisMask axes, const Tensor& mean, double divisor,
                       Tensor& grad_x) {
  const Shape kept = reduced_shape(x.shape(), axes, true);
  const BroadcastPlan plan = plan_broadcast(x.shape(), kept, x.shape());
  const int64_t step = plan.stride_b[plan.rank - 1];
  dispatch_floating(x.dtype(), "var", [&]<typename T>() {
    const T *in = x.data<T>(), *g = grad_y.data<T>();
    const double* centre = mean.data<double>();
    T* out = grad_x.data<T>();
    const double factor = 2 / divisor;
    parallel_for(x.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
      for_each_run(plan, begin, end, [&](int64_t first, int64_t, int64_t at, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t o = at + i * step;
          out[first + i] = T(factor * double(g[o]) * (double(in[first + i]) - centre[o]));
        }
      });
    });
  });
}

void max(const Tensor& x, int axis, Tensor& y, Tensor& index) {
  const Extents e = extents_around(x.shape(), axis);
  if (x.numel() == 0) return;
  dispatch_floating(x.dtype(), "max", [&]<typename T>() {
    T* values = y.defined() ? y.data<T>() : nullptr;
    if (e.inner == 1) {
      max_of_rows(x.data<T>(), e, values, index.data<int64_t>());
    } else if (sizeof(T) == 4 && e.count <= std::numeric_limits<int32_t>::max()) {
      max_of_columns<int32_t>(x.data<T>(), e, values, index.data<int64_t>());
    } else {
      max_of_columns<int64_t>(x.data<T>(), e, values, index.data<int64_t>());
    }
  });
}

void max_backward(const Tensor& grad_y, const Tensor& index, int axis, Tensor& grad_x) {
  const Extents e = extents_around(grad_x.shape(), axis);
  dispatch_floating(grad_y.dtype(), "max", [&]<typename T>() {
    const T* g = grad_y.data<T>();
    const int64_t* places = index.data<int64_t>();
    T* out = grad_x.data<T>();
    parallel_for(e.outer, grain_for(e.count * e.inner), [&](int64_t begin, int64_t end) {
      std::fill(out + begin * e.count * e.inner, out + end * e.count * e.inner, T(0));
      for (int64_t i = begin * e.inner; i < end * e.inner; ++i) {
        out[(i / e.inner * e.count + places[i]) * e.inner + i % e.inner] = g[i];
      }
    });
  });
}

}  // namespace eq::cpu
