// Rows of logits as cuda/class_rows.h has them. Forward: a thread's classes are the same in every row, so it keeps their sums, in
// registers and in a column of shared memory; blocks add those of their threads, and the sums of the blocks stay on the device.

#include "core/kernels/dice_loss.h"

#include "core/kernels/assign.h"
#include "cuda/class_labels.h"

namespace eq::cuda {
namespace {

constexpr int64_t kMostSummed = 1024;   // blocks of forward: each has its own sums of every class
constexpr int64_t kMostBlocks = 4096;   // of backward
enum Sum { kOverlap, kAnswered, kLabelled, kSums };

// Behind the tiles: what the threads of a block have found, [slots][kTileThreads] each.
template <class T>
size_t columns_bytes(const RowTile& tile) {
  return tile.is_long() ? 0 : size_t(tile.slots) * kTileThreads * (sizeof(Wide<T>) + sizeof(unsigned));
}

// parts: [blocks][kSums][C]. Of long rows a block's sums change with each row.
template <class T, class Kind>
__global__ void __launch_bounds__(Kind::kLong ? kThreads : kTileThreads)
    dice_sums(RowTile tile, const T* logits, ClassLabels labels, bool squared, double* parts, int64_t* first_bad) {
  using W = Wide<T>;
  const RowPart<Kind> part(tile);
  const auto sum_at = [&](Sum sum, int c) -> double& { return parts[(int64_t(blockIdx.x) * kSums + sum) * labels.classes + c]; };
  const auto power = [squared](W p) { return squared ? p * p : p; };
  int64_t bad = kNoPosition;
  // add_all(p of (v, i)) and add_own(class, p) for each row with a label.
  const auto each_row = [&](const auto& add_all, const auto& add_own) {
    each_labelled_tile<T, Kind>(tile, part, logits, labels, [&](const TileRows& rows, int label, const T* in, T*) {
      const RowExponentials<T, Kind> exponentials(part, in);
      if (label == ClassLabels::kBad) bad = Smaller()(bad, rows.first_row + part.row);
      if (label < 0) return;
      const W inverse = 1 / exponentials.total;
      add_all([&](int v, int i) { return exponentials(v, i) * inverse; });
      const int own = part.find(label);
      if (own >= 0) add_own(label, exp_difference(W(in[own]) - exponentials.top) * inverse);
    });
  };
  if constexpr (Kind::kLong) {
    part.each([&](int, int c) { sum_at(kOverlap, c) = sum_at(kAnswered, c) = sum_at(kLabelled, c) = 0; });
    each_row([&](const auto& p) { part.each([&](int v, int c) { sum_at(kAnswered, c) += double(power(p(v, c))); }); },
             [&](int c, W p) { sum_at(kOverlap, c) += double(p), sum_at(kLabelled, c) += 1; });
  } else {
    W* const columns = reinterpret_cast<W*>(shared_memory<T>() + 2 * kTileWarps * tile.values());
    unsigned* const counts = reinterpret_cast<unsigned*>(columns + tile.slots * kTileThreads);
    const auto in_column = [&](int slot) { return slot * kTileThreads + int(threadIdx.x); };
    for (int slot = 0; slot < tile.slots; ++slot) columns[in_column(slot)] = 0, counts[in_column(slot)] = 0;
    W answered[Kind::kSlots] = {};
    each_row(
        [&](const auto& p) {
#pragma unroll
          for (int v = 0; v < Kind::kSlots; ++v) answered[v] += power(p(v, 0));
        },
        [&](int c, W p) {
          const int at = in_column(c >> tile.log_lanes);
          columns[at] += p, ++counts[at];
        });
    // Threads whose classes are the same are `lanes` apart. Neighbours begin in different banks.
    const int sharing = kTileThreads / part.lanes;
    const auto add_columns = [&](const auto* values, Sum sum) {
      __syncthreads();
      for (int c = int(threadIdx.x); c < tile.width; c += kTileThreads) {
        const auto* column = values + (c >> tile.log_lanes) * kTileThreads + (c & (part.lanes - 1));
        double total = 0;
        for (int k = 0; k < sharing; ++k) total += double(column[(k + c) % sharing * part.lanes]);
        sum_at(sum, c) = total;
      }
      __syncthreads();
    };
    add_columns(columns, kOverlap);
    add_columns(counts, kLabelled);
#pragma unroll
    for (int v = 0; v < Kind::kSlots; ++v) {
      if (v < tile.slots) columns[in_column(v)] = answered[v];
    }
    add_columns(columns, kAnswered);
  }
  bad = block_reduce(bad, kNoPosition, Smaller());
  if (threadIdx.x == 0) first_bad[blockIdx.x] = bad;
}

// Each warp: one sum of one class, over the blocks before.
__global__ void add_parts(const double* parts, int blocks, int columns, double* sums) {
  const int column = int(blockIdx.x * (kThreads / kWarp) + threadIdx.x / kWarp), lane = int(threadIdx.x) % kWarp;
  if (column >= columns) return;
  double sum = 0;
  EQ_UNROLL(4)  // neighbouring warps read what lies beside
  for (int i = lane; i < blocks; i += kWarp) sum += parts[int64_t(i) * columns + column];
  sum = warp_reduce(sum, Add());
  if (lane == 0) sums[column] = sum;
}

// sums: [kSums][C]. By one block: the loss, the slopes, and what is wrong with the labels.
template <class T>
__global__ void __launch_bounds__(kLastThreads)
    finish(const double* sums, const int64_t* first_bad, int count, ClassLabels labels, double smooth, bool of_all, T* loss, double* slopes,
           int64_t* found) {
  const int classes = int(labels.classes);
  const auto sum_at = [&](Sum sum, int c) { return sums[sum * classes + c]; };
  double present = 0, total = 0;
  for (int c = int(threadIdx.x); c < classes; c += kLastThreads) present += sum_at(kLabelled, c) > 0;
  present = block_sum(present);
  const double share = 1 / (of_all ? double(classes) : present > 0 ? present : 1);
  for (int c = int(threadIdx.x); c < classes; c += kLastThreads) {
    const DiceTerm term = dice_term(sum_at(kOverlap, c), sum_at(kAnswered, c), sum_at(kLabelled, c), smooth, share);
    total += term.loss;
    slopes[c] = term.overlap_slope;
    slopes[classes + c] = term.answer_slope;
  }
  total = block_sum(total);
  if (threadIdx.x == 0) *loss = T(total);
  labels.report(first_bad, count, found);
}

template <class T, class Kind>
__global__ void __launch_bounds__(Kind::kLong ? kThreads : kTileThreads)
    dice_gradient(RowTile tile, const T* logits, ClassLabels labels, bool squared, const double* slopes, const T* grad_loss, T* gradient) {
  using W = Wide<T>;
  constexpr bool kLong = Kind::kLong;
  const RowPart<Kind> part(tile);
  const double factor = double(Wide<T>(*grad_loss)), exponent = squared ? 2 : 1;
  // d loss / d I of a class, and e d loss / d P: behind the tiles, [2][C], in shared memory.
  const auto scaled = [&](int at) { return W(slopes[at] * factor * (at < tile.width ? 1 : exponent)); };
  W* const table = reinterpret_cast<W*>(shared_memory<T>() + 2 * kTileWarps * tile.values());
  if constexpr (!kLong) {
    for (int at = int(threadIdx.x); at < 2 * tile.width; at += kTileThreads) table[at] = scaled(at);
    __syncthreads();
  }
  const auto slope_at = [&](int at) { return kLong ? scaled(at) : table[at]; };
  each_labelled_tile<T, Kind>(tile, part, logits, labels, [&](const TileRows& rows, int label, const T* in, T* shared) {
    const RowExponentials<T, Kind> exponentials(part, in);
    const bool valid = label >= 0;
    const W inverse = 1 / exponentials.total;
    const int own = valid ? part.find(label) : -1;  // one thread of the row has the label's logit
    const W own_p = own < 0 ? W(0) : exp_difference(W(in[own]) - exponentials.top) * inverse;
    const W peak = own < 0 ? W(0) : own_p * slope_at(label);
    const auto slope = [&](int i, W p) {
      const W whole = slope_at(tile.width + i - part.start);
      return squared ? whole * p : whole;
    };
    W mean = peak;
    part.each([&](int v, int i) {
      const W p = exponentials(v, i) * inverse;
      mean += p * slope(i, p);
    });
    mean = part.combine(mean, W(0), Add());
    const auto result = [&](int i, W p) { return p * (slope(i, p) - mean); };
    T* out = kLong ? gradient + rows.first : shared;
    part.each([&](int v, int i) { out[i] = T(valid ? result(i, exponentials(v, i) * inverse) : W(0)); });
    if (own >= 0) out[own] = T(result(own, own_p) + peak);
    if constexpr (!kLong) {
      __syncwarp();
      store_tile<Kind>(tile, shared, rows.count, gradient + rows.first);
    }
  });
}

}  // namespace

void dice_loss(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options, Tensor& loss, Tensor& slopes) {
  if (labels.numel() == 0) {
    loss.fill_(0);
    slopes.fill_(0);
    return;
  }
  const Device device = logits.device();
  if (logits.dtype() == DType::kBFloat16) {  // converted: networks' scores are float32 in either precision, and these kernels are many
    Tensor wide = Tensor::empty({}, DType::kFloat32, device);
    dice_loss(logits.to(DType::kFloat32), labels, options, wide, slopes);
    return convert(wide, loss);
  }
  int64_t* const found = report_cell(device);
  const ClassLabels view(labels, logits, options.ignore_index);
  dispatch_floating(logits.dtype(), "dice_loss", [&]<typename T>() {
    const RowTile tile = row_tile<T>(view.classes, data<T>(logits));
    const unsigned blocks = blocks_of(tile, view.count, kMostSummed);
    const int64_t columns = kSums * view.classes;
    const Tensor parts = Tensor::empty({int64_t(blocks), columns}, DType::kFloat64, device),
                 sums = Tensor::empty({columns}, DType::kFloat64, device), bad = Tensor::empty({int64_t(blocks)}, DType::kInt64, device);
    with_row_kind<T>(tile, [&]<class Kind>(Kind) {
      launch(device, "dice_loss", Grid{blocks, tile.threads(), 2 * tile.shared_bytes<T>() + columns_bytes<T>(tile)}, dice_sums<T, Kind>,
             tile, data<T>(logits), view, options.squared, data<double>(parts), data<int64_t>(bad));
    });
    launch(device, "dice_loss", Grid{blocks_for(columns, kThreads / kWarp), kThreads}, add_parts, data<double>(parts), int(blocks),
           int(columns), data<double>(sums));
    launch(device, "dice_loss", Grid{1, kLastThreads}, finish<T>, data<double>(sums), data<int64_t>(bad), int(blocks), view,
           options.smooth, options.mean == DiceLossOptions::Mean::kAll, data<T>(loss), data<double>(slopes), found);
  });
  report_bad_label("dice_loss", device, found, view, labels.shape());
}

void dice_loss_backward(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options, const Tensor& slopes,
                        const Tensor& grad_loss, Tensor& grad_logits) {
  if (labels.numel() == 0) return;
  if (logits.dtype() == DType::kBFloat16) {
    Tensor wide = Tensor::empty(logits.shape(), DType::kFloat32, logits.device());
    dice_loss_backward(logits.to(DType::kFloat32), labels, options, slopes, grad_loss.to(DType::kFloat32), wide);
    return convert(wide, grad_logits);
  }
  const ClassLabels view(labels, logits, options.ignore_index);
  dispatch_floating(logits.dtype(), "dice_loss", [&]<typename T>() {
    const RowTile tile = row_tile<T>(view.classes, data<T>(logits), data<T>(grad_logits));
    const size_t table = tile.is_long() ? 0 : 2 * size_t(tile.width) * sizeof(Wide<T>);
    with_row_kind<T>(tile, [&]<class Kind>(Kind) {
      launch(logits.device(), "dice_loss",
             Grid{blocks_of(tile, view.count, kMostBlocks), tile.threads(), 2 * tile.shared_bytes<T>() + table}, dice_gradient<T, Kind>,
             tile, data<T>(logits), view, options.squared, data<double>(slopes), data<T>(grad_loss), data<T>(grad_logits));
    });
  });
}

}  // namespace eq::cuda
