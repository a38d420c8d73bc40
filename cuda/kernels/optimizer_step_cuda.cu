// A launch takes a table of hundreds of parameters as its argument: a network has as many, most of them small. A block has a chunk
// of one of them, which it finds by its number, and walks over it in packs of 16 bytes. Sums of squares: a sum per chunk, then a
// block per parameter adds those of its chunks.

#include "core/kernels/optimizer_step.h"

#include "cuda/block.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

#ifdef EQ_CUDA_SIMULATED
constexpr size_t kTableBytes = 1 << 10;  // copied for each fiber; and short lists fill several tables
#else
constexpr size_t kTableBytes = 30 << 10;  // a kernel's arguments may have 32,764 bytes
#endif

// Entries have a `count` of elements, `units`, and say whether they can be taken in `packs`.
template <class Entry>
struct Table {
  static constexpr int kCapacity = int((kTableBytes - 16) / (sizeof(Entry) + sizeof(unsigned)));
  int size = 0;
  unsigned first[kCapacity + 1] = {};  // block of an entry; after the last, their number
  Entry entries[kCapacity] = {};

  void add(const Entry& entry, int64_t chunk) {
    entries[size] = entry;
    first[size + 1] = first[size] + blocks_for(entry.count, chunk);
    ++size;
  }
  Grid grid() const { return {first[size], kThreads}; }
  // The last entry whose first block is not beyond `block`; entries without elements have none.
  EQ_HOST_DEVICE int entry_of(unsigned block) const {
    int low = 0, high = size;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] <= block ? low : high) = middle;
    }
    return low;
  }
};

// The unit of element i of a weight [O,kh,kw,I] in groups: that of the input channel it reads.
template <class T>
struct Units {
  const T* unit;  // nullptr: 1 everywhere
  int64_t row, outputs;  // weights of a tap, of the output channels of a group

  EQ_HOST_DEVICE const T* at(int64_t i) const { return unit + (i / outputs * row + i % row); }
};

template <class T>
Units<T> units_of(const SteppedParameter& parameter) {
  if (!parameter.unit.defined()) return {nullptr, 1, 1};
  return {data<T>(parameter.unit), parameter.grad.size(3), parameter.grad.numel() / parameter.groups};
}

// Arrays begin on a pack, and the units of a pack are neighbours.
template <class T, class... Arrays>
bool in_packs(const Units<T>& units, const Arrays*... arrays) {
  return on_16_bytes(arrays..., units.unit) && (units.unit == nullptr || units.row % kPackWidth<T> == 0);
}

// Calls body.operator()<N>(i) for N neighbours each time, over what this thread has of chunk `part`; loads of `rounds` calls may be
// on their way together.
template <int rounds, class T, class Entry, class Body>
__device__ inline void for_packs(int64_t part, int64_t chunk, const Entry& of, const Body& body) {
  constexpr int N = kPackWidth<T>;
  const int64_t begin = part * chunk, end = begin + chunk < of.count ? begin + chunk : of.count;
  const int64_t whole = of.packs ? end - (end - begin) % N : begin;
  EQ_UNROLL(rounds)
  for (int64_t i = begin + int64_t(threadIdx.x) * N; i < whole; i += kThreads * N) body.template operator()<N>(i);
  EQ_UNROLL(1)
  for (int64_t i = whole + threadIdx.x; i < end; i += kThreads) body.template operator()<1>(i);
}

// --- steps ---

template <class T, class Update, int arrays>
struct Step {
  Update update;
  Units<T> units;
  const T* grad;
  T* array[arrays];  // the value, and the state
  int64_t count;
  bool packs;
};

template <bool has_units, class T, class Update, int arrays>
struct StepPacks {
  const Step<T, Update, arrays>& of;

  template <int N>
  __device__ void operator()(int64_t i) const {
    Pack<T, N> v[arrays], g = load_pack<T, N>(of.grad + i), unit;
    for (int a = 0; a < arrays; ++a) v[a] = load_pack<T, N>(of.array[a] + i);
    if constexpr (has_units) unit = load_pack<T, N>(of.units.at(i));
    for (int k = 0; k < N; ++k) {
      if constexpr (has_units) v[0][k] *= unit[k], g[k] /= unit[k];
      if constexpr (arrays == 1) of.update(v[0][k], g[k]);
      if constexpr (arrays == 2) of.update(v[0][k], g[k], v[1][k]);
      if constexpr (arrays == 3) of.update(v[0][k], g[k], v[1][k], v[2][k]);
      if constexpr (has_units) v[0][k] /= unit[k];
    }
    for (int a = 0; a < arrays; ++a) store_pack(of.array[a] + i, v[a]);
  }
};

constexpr int64_t kStepChunk = 4096;

template <class T, class Update, int arrays>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 4 : 1)
    step_kernel(const __grid_constant__ Table<Step<T, Update, arrays>> table) {
  const int entry = table.entry_of(blockIdx.x);
  const Step<T, Update, arrays>& of = table.entries[entry];
  const int64_t part = blockIdx.x - table.first[entry];
  if (of.units.unit == nullptr) {
    for_packs<1, T>(part, kStepChunk, of, StepPacks<false, T, Update, arrays>{of});
  } else {
    for_packs<1, T>(part, kStepChunk, of, StepPacks<true, T, Update, arrays>{of});
  }
}

// --- sums of squares ---

template <class T>
struct Squares {
  Units<T> units;
  const T* x;
  int64_t count;
  bool packs;
};

template <bool has_units, class T>
struct AddSquares {
  const Squares<T>& of;
  double& sum;

  template <int N>
  __device__ void operator()(int64_t i) const {
    Pack<T, N> x = load_pack<T, N>(of.x + i);
    if constexpr (has_units) {
      const Pack<T, N> unit = load_pack<T, N>(of.units.at(i));
      for (int k = 0; k < N; ++k) x[k] = x[k] / unit[k];
    }
    double squares = 0;
    for (int k = 0; k < N; ++k) squares += double(x[k]) * double(x[k]);
    sum += squares;
  }
};

constexpr int64_t kSumChunk = 8192;

template <class T>
__global__ void __launch_bounds__(kThreads) partial_squares(const __grid_constant__ Table<Squares<T>> table, double* partials) {
  const int entry = table.entry_of(blockIdx.x);
  const Squares<T>& of = table.entries[entry];
  double sum = 0;
  const int64_t part = blockIdx.x - table.first[entry];
  if (of.units.unit == nullptr) {
    for_packs<4, T>(part, kSumChunk, of, AddSquares<false, T>{of, sum});
  } else {
    for_packs<1, T>(part, kSumChunk, of, AddSquares<true, T>{of, sum});
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// Block = entry.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_partials(const __grid_constant__ Table<Squares<T>> table, const double* partials, double* sums) {
  double sum = 0;
  for (unsigned i = table.first[blockIdx.x] + threadIdx.x; i < table.first[blockIdx.x + 1]; i += kThreads) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// --- lists in tables ---

// Calls fn(device, table, first) with tables of make.operator()<T>(i), the entries of parameters `first` on: as many neighbours of
// one type on one device as there is room for.
template <class Make, class Fn>
void in_tables(const std::vector<SteppedParameter>& parameters, const char* op, int64_t chunk, const Make& make, const Fn& fn) {
  for (size_t first = 0, next = 0; first < parameters.size(); first = next) {
    const Tensor& grad = parameters[first].grad;
    dispatch_floating(grad.dtype(), op, [&]<typename T>() {
      Table<decltype(make.template operator()<T>(first))> table;
      do {
        table.add(make.template operator()<T>(next++), chunk);
      } while (next < parameters.size() && table.size < table.kCapacity && parameters[next].grad.dtype() == grad.dtype() &&
               parameters[next].grad.device() == grad.device());
      fn(grad.device(), table, first);
    });
  }
}

// `arrays`: of a parameter, its value and its state.
template <int arrays, template <class> class Update>
void step_all(const char* name, const std::vector<Update<double>>& updates, const std::vector<SteppedParameter>& parameters) {
  const auto entry = [&]<typename T>(size_t i) {
    const SteppedParameter& p = parameters[i];
    Step<T, Update<T>, arrays> step{
        updates[i].template as<T>(), units_of<T>(p), data<T>(p.grad), {data<T>(p.value)}, p.value.numel(), true};
    step.packs = in_packs(step.units, step.grad, step.array[0]);
    for (int a = 1; a < arrays; ++a) {
      step.array[a] = data<T>(p.state[a - 1]);
      step.packs = step.packs && in_packs(step.units, step.array[a]);
    }
    return step;
  };
  in_tables(parameters, name, kStepChunk, entry, [&]<class T>(Device device, const Table<Step<T, Update<T>, arrays>>& table, size_t) {
    launch(device, name, table.grid(), step_kernel<T, Update<T>, arrays>, table);
  });
}

}  // namespace

void sgd_step(const std::vector<SgdUpdate<double>>& updates, const std::vector<SteppedParameter>& parameters) {
  if (parameters.empty()) return;
  if (parameters[0].state[0].defined()) {
    step_all<2>("sgd", updates, parameters);
  } else {
    step_all<1>("sgd", updates, parameters);
  }
}

void adamw_step(const std::vector<AdamWUpdate<double>>& updates, const std::vector<SteppedParameter>& parameters) {
  step_all<3>("adamw", updates, parameters);
}

void average_step(const AverageUpdate<double>& update, const std::vector<SteppedParameter>& averages) {
  step_all<1>("averaged weights", std::vector(averages.size(), update), averages);
}

void sums_of_squares(const std::vector<SteppedParameter>& parameters, const Tensor& sums) {
  const char* name = "sums of squares";
  const auto entry = [&]<typename T>(size_t i) {
    const Tensor& grad = parameters[i].grad;
    const Units<T> units = units_of<T>(parameters[i]);
    return Squares<T>{units, data<T>(grad), grad.numel(), in_packs(units, data<T>(grad))};
  };
  in_tables(parameters, name, kSumChunk, entry, [&]<class T>(Device device, const Table<Squares<T>>& table, size_t first) {
    const Tensor partials = Tensor::empty({int64_t(table.grid().blocks.x)}, DType::kFloat64, device);
    launch(device, name, table.grid(), partial_squares<T>, table, data<double>(partials));
    launch(device, name, Grid{unsigned(table.size), kThreads}, add_partials<T>, table, data<double>(partials),
           data<double>(sums) + first);
  });
}

}  // namespace eq::cuda
