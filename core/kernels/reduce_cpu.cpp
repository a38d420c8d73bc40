#include "core/kernels/reduce.h"

#include <limits>

#include "core/kernels/elementwise.h"
#include "core/kernels/lanes.h"
#include "core/kernels/permute.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kChunk = 1 << 15;  // elements a task adds up
constexpr int64_t kBlock = 1024;     // columns a task adds up side by side: their totals stay in L1

// x seen as [outer, count, inner], the middle axis reduced.
struct Extents {
  int64_t outer = 1, count = 1, inner = 1;
};

Extents extents_around(const Shape& shape, int axis) {
  return {shape.product(0, axis), shape[axis], shape.product(axis + 1, shape.rank())};
}

// The last run of reduced axes that are neighbours (axes of one element do not matter), with what is before and behind it. Takes it out of
// `shape` and `mask`; what is left in the mask are other runs.
Extents take_last_run(Shape& shape, AxisMask& mask) {
  Extents extents;
  int stage = 0;  // behind, in, before the run
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    const AxisMask bit = AxisMask{1} << axis;
    const bool reduced = (mask & bit) != 0;
    if (shape[axis] == 1) {
      mask &= ~bit;
      continue;
    }
    stage = reduced && stage == 0 ? 1 : !reduced && stage == 1 ? 2 : stage;
    (stage == 0 ? extents.inner : stage == 1 ? extents.count : extents.outer) *= shape[axis];
    if (stage == 1) {
      shape.set(axis, 1);
      mask &= ~bit;
    }
  }
  return extents;
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
  static constexpr bool kCentred = false;
  template <class V, class Centre>
  static V of(V x, Centre) { return x; }
};
struct SquaredDistance {
  static constexpr bool kCentred = true;
  template <class V, class Centre>
  static V of(V x, Centre centre) { return (x - centre) * (x - centre); }
};

// The total of a row of `count` values, in 16 lanes that are then added in halves. Behind a row full vectors may be read as far as `limit`.
template <class Term, class T>
struct RowTotal {
  static constexpr int64_t kHalf = kLanes<double>;
  RowTotal(int64_t row_length, const T* end) : count(row_length), limit(end), mask(first_lanes<double>(row_length % kHalf)) {}

  double operator()(const T* x, double centre) const {
    auto terms = [centre](const T* from) { return each<double>([centre](auto v) { return Term::of(v, centre); }, load_as_double(from)); };
    Lanes<double> low{}, high{};
    int64_t i = 0;
    for (; i + 2 * kHalf <= count; i += 2 * kHalf) {
      low += terms(x + i);
      high += terms(x + i + kHalf);
    }
    const bool ends_in_high = i + kHalf <= count;
    if (ends_in_high) {
      low += terms(x + i);
      i += kHalf;
    }
    if (i < count) {
      T rest[kHalf] = {};
      const bool inside = x + i + kHalf <= limit;
      if (!inside) std::copy(x + i, x + count, rest);
      const Lanes<double> last = each<double>([](auto m, auto v) { return m ? v : decltype(v){}; }, mask, terms(inside ? x + i : rest));
      if (ends_in_high) high += last;
      else low += last;
    }
    return sum_lanes<double>(low + high);
  }

  int64_t count;
  const T* limit;
  Lanes<int64_t> mask;  // of the values in the last vector, if it is not full
};

// totals[c] += the column sums of `kRows` rows of `width` values, `stride` apart.
template <class Term, int kRows, class T>
void add_rows(const T* x, int64_t stride, int64_t width, const double* centre, double* totals) {
  int64_t c = 0;
  for (; c + kLanes<double> <= width; c += kLanes<double>) {
    Lanes<double> total = load(totals + c);
    const Lanes<double> middle = Term::kCentred ? load(centre + c) : Lanes<double>{};
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) {
      total += each<double>([](auto v, auto m) { return Term::of(v, m); }, load_as_double(x + row * stride + c), middle);
    }
    store(totals + c, total);
  }
  for (; c < width; ++c) {
    for (int row = 0; row < kRows; ++row) totals[c] += Term::of(double(x[row * stride + c]), Term::kCentred ? centre[c] : 0);
  }
}

template <class Term, class T>
void column_totals(const T* x, int64_t rows, int64_t stride, int64_t width, const double* centre, double* totals) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) add_rows<Term, 4>(x + row * stride, stride, width, centre, totals);
  for (; row < rows; ++row) add_rows<Term, 1>(x + row * stride, stride, width, centre, totals);
}

// The same for rows that follow each other and are too narrow to fill vectors: several rows are added side by side,
// then folded into one.
template <class Term, class T>
void narrow_column_totals(const T* x, int64_t rows, int64_t width, const double* centre, double* totals) {
  constexpr int64_t kWide = 64;
  const int64_t together = kWide / width;
  double wide[kWide] = {}, wide_centre[kWide] = {};
  for (int64_t c = 0; Term::kCentred && c < together * width; ++c) wide_centre[c] = centre[c % width];
  const int64_t whole = rows / together;
  column_totals<Term>(x, whole, together * width, together * width, wide_centre, wide);
  column_totals<Term>(x + whole * together * width, 1, 0, (rows - whole * together) * width, wide_centre, wide);
  for (const double* row = wide; row < wide + together * width; row += width) {
    for (int64_t c = 0; c < width; ++c) totals[c] += row[c];
  }
}

// out = factor * the total of each output, [outer * inner]; centres likewise or null.
template <class Term, class T, class Out>
void reduce(const T* x, const Extents& e, const double* centres, double factor, Out* out) {
  const int64_t outputs = e.outer * e.inner;
  const int64_t blocks = (e.inner + kBlock - 1) / kBlock;
  const int64_t rows = std::max<int64_t>(1, kChunk / std::min(e.inner, kBlock));  // rows per chunk
  const int64_t chunks = std::max<int64_t>(1, (e.count + rows - 1) / rows);
  const int64_t work = std::min(rows, e.count) * std::min(e.inner, kBlock);
  const T* limit = x + e.outer * e.count * e.inner;
  if (e.inner == 1 && chunks == 1) {
    const RowTotal<Term, T> row_total(e.count, limit);
    parallel_for(e.outer, grain_for(work, kChunk), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) out[row] = Out(factor * row_total(x + row * e.count, Term::kCentred ? centres[row] : 0));
    });
    return;
  }
  std::vector<double> parts(chunks == 1 ? 0 : size_t(chunks * outputs));
  parallel_for(e.outer * chunks * blocks, grain_for(work, kChunk), [&](int64_t begin, int64_t end) {
    double totals[kBlock];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t block = task % blocks, chunk = task / blocks % chunks, outer = task / blocks / chunks;
      const int64_t row_begin = chunk * rows, row_count = std::min(e.count, row_begin + rows) - row_begin;
      const int64_t column = block * kBlock, width = std::min(kBlock, e.inner - column), at = outer * e.inner + column;
      const T* values = x + (outer * e.count + row_begin) * e.inner + column;
      const double* centre = Term::kCentred ? centres + at : nullptr;
      std::fill(totals, totals + width, 0.0);
      if (e.inner == 1) {
        totals[0] = RowTotal<Term, T>(row_count, limit)(values, Term::kCentred ? *centre : 0);
      } else if (e.inner <= 32) {
        narrow_column_totals<Term>(values, row_count, e.inner, centre, totals);
      } else {
        column_totals<Term>(values, row_count, e.inner, width, centre, totals);
      }
      if (chunks > 1) std::copy(totals, totals + width, parts.data() + chunk * outputs + at);
      else for (int64_t c = 0; c < width; ++c) out[at + c] = Out(factor * totals[c]);
    }
  });
  if (chunks == 1) return;
  parallel_for(outputs, grain_for(chunks), [&](int64_t begin, int64_t end) {
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      for (int64_t i = begin; i < end; ++i) parts[i] += parts[chunk * outputs + i];
    }
    for (int64_t i = begin; i < end; ++i) out[i] = Out(factor * parts[i]);
  });
}

// The first place of the largest value of a row, or of a NaN. Vectors over the row, first for the value, then for its place; behind the row
// they may read as far as `limit`.
template <class T>
int64_t place_of_max(const LaneRow<T>& walk, const T* row, const T* limit) {
  using Bits = BitsOf<T>;
  Lanes<T> largest = walk.load(row, 0, limit, row[0]), strange{};  // strange: NaN as soon as there is one
  strange += largest - largest;
  for (int64_t v = 1; v < walk.vectors; ++v) {
    const Lanes<T> values = walk.load(row, v, limit, row[0]);
    strange += values - values;
    largest = max_of(values, largest);
  }
  const T sum = sum_lanes<T>(strange);
  if (sum != sum) {  // an infinity is strange, too, but only a NaN is not itself
    for (int64_t place = 0; place < (walk.vectors - 1) * kLanes<T> + walk.last; ++place) {
      if (row[place] != row[place]) return place;
    }
  }
  const T most = max_lanes<T>(largest);
  const Lanes<Bits> lane = lane_numbers<T>();
  for (int64_t v = 0;; ++v) {
    const Lanes<T> values = walk.load(row, v, limit, row[0]);
    const Lanes<Bits> places =
        each<Bits>([most](auto x, auto lane) { return x == most ? lane : decltype(lane){} + Bits(kLanes<T>); }, values, lane);
    const Bits place = fold_lanes<Bits>(places, [](auto a, auto b) { return a < b ? a : b; });
    if (place < kLanes<T>) return v * kLanes<T> + place;
  }
}

template <class T>
void max_of_rows(const T* x, const Extents& e, T* values, int64_t* places) {
  const LaneRow<T> walk(e.count);
  parallel_for(e.outer, grain_for(e.count), [=, &walk](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      places[row] = place_of_max(walk, x + row * e.count, x + e.outer * e.count);
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
  dispatch_floating(x.dtype(), "sum", [&]<typename T>() {
    Shape shape = x.shape();
    Extents run = take_last_run(shape, axes);
    if (axes == 0) return reduce<Value>(x.data<T>(), run, nullptr, factor, y.data<T>());
    std::vector<double> totals(size_t(run.outer * run.inner)), next;  // of the runs so far
    reduce<Value>(x.data<T>(), run, nullptr, 1, totals.data());
    while (run = take_last_run(shape, axes), axes != 0) {
      next.resize(size_t(run.outer * run.inner));
      reduce<Value>(totals.data(), run, nullptr, 1, next.data());
      totals.swap(next);
    }
    reduce<Value>(totals.data(), run, nullptr, factor, y.data<T>());
  });
}

void variance(const Tensor& x, AxisMask axes, double divisor, Tensor& y, Tensor& mean) {
  if (x.numel() == 0) return;
  Shape shape = x.shape();
  AxisMask left = axes;
  Extents extents = take_last_run(shape, left);
  const Tensor source = left == 0 ? x : reduced_last(x, axes, extents);
  dispatch_floating(x.dtype(), "var", [&]<typename T>() {
    double* centres = mean.data<double>();
    reduce<Value>(source.data<T>(), extents, nullptr, 1 / double(extents.count), centres);
    reduce<SquaredDistance>(source.data<T>(), extents, centres, 1 / divisor, y.data<T>());
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
