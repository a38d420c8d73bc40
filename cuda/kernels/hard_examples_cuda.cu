// The labels' probabilities in one pass over the logits; then their bits are gone through five by five, the highest first: how many
// of those that begin as the one sought have each next digit says which digit it has. Nothing waits for the host.

#include "core/kernels/hard_examples.h"

#include "cuda/class_labels.h"

namespace eq::cuda {
namespace {

constexpr int64_t kMostBlocks = 4096;
constexpr int kDigitBits = 5, kDigits = 1 << kDigitBits;  // a lane for each digit, and a column of counts for each thread
static_assert(kDigits == kWarp && kProbabilityBits % kDigitBits == 0);

// What is known of the probability sought: its first bits, and its rank among those that have them.
struct Selection {
  int64_t prefix, rank;
};

template <class T, class Kind>
__global__ void __launch_bounds__(Kind::kLong ? kThreads : kTileThreads)
    label_probabilities(RowTile tile, const T* logits, ClassLabels labels, float* probabilities, int64_t* first_bad) {
  using W = Wide<T>;
  const RowPart<Kind> part(tile);
  int64_t bad = kNoPosition;
  each_labelled_tile<T, Kind>(tile, part, logits, labels, [&](const TileRows& rows, int label, const T* in, T*) {
    const RowExponentials<T, Kind> exponentials(part, in);
    if (part.row >= rows.rows) return;
    const int64_t row = rows.first_row + part.row;
    if (label == ClassLabels::kBad) bad = Smaller()(bad, row);
    if (label < 0) {
      if (part.first == 0) probabilities[row] = kNoProbability;
      return;
    }
    const int own = part.find(label);
    if (own >= 0) probabilities[row] = probability_or_zero(exp_difference(W(in[own]) - exponentials.top) / exponentials.total);
  });
  bad = block_reduce(bad, kNoPosition, Smaller());
  if (threadIdx.x == 0) first_bad[blockIdx.x] = bad;
}

// Each block: of the probabilities in its chunk that begin with the prefix (at first none), how many have each digit next.
__global__ void count_digits(const float* probabilities, int64_t count, int64_t chunk, const Selection* selection, int shift,
                             unsigned* counts) {
  __shared__ unsigned columns[kDigits][kThreads];
  for (int digit = 0; digit < kDigits; ++digit) columns[digit][threadIdx.x] = 0;
  const uint32_t prefix = shift + kDigitBits == kProbabilityBits ? 0 : uint32_t(selection->prefix);
  const int64_t begin = int64_t(blockIdx.x) * chunk, limit = begin + chunk < count ? begin + chunk : count;
  EQ_UNROLL(4)
  for (int64_t i = begin + threadIdx.x; i < limit; i += kThreads) {
    const uint32_t bits = probability_bits(probabilities[i]);
    if (bits >> (shift + kDigitBits) == prefix) ++columns[(bits >> shift) % kDigits][threadIdx.x];
  }
  __syncthreads();
  const int lane = int(threadIdx.x) % kWarp;
  for (int digit = int(threadIdx.x) / kWarp; digit < kDigits; digit += kThreads / kWarp) {
    unsigned sum = 0;
    for (int i = lane; i < kThreads; i += kWarp) sum += columns[digit][i];
    sum = warp_reduce(sum, Add());
    if (lane == 0) counts[int64_t(blockIdx.x) * kDigits + digit] = sum;
  }
}

// One block: the next digit of the probability sought. At first its rank is min_kept, or the last one.
__global__ void __launch_bounds__(kLastThreads)
    pick_digit(const unsigned* counts, int blocks, bool first, int64_t min_kept, Selection* selection) {
  constexpr int kGroups = kLastThreads / kDigits;
  __shared__ int64_t sums[kGroups][kDigits];
  const int digit = int(threadIdx.x) % kDigits, group = int(threadIdx.x) / kDigits;
  int64_t sum = 0;
  for (int block = group; block < blocks; block += kGroups) sum += counts[int64_t(block) * kDigits + digit];
  sums[group][digit] = sum;
  __syncthreads();
  if (group > 0) return;
  for (int other = 1; other < kGroups; ++other) sum += sums[other][digit];
  int64_t smaller = 0, all = 0;
  for (int lane = 0; lane < kDigits; ++lane) {
    const int64_t those = __shfl_sync(0xffffffffu, sum, lane);
    if (lane < digit) smaller += those;
    all += those;
  }
  const int64_t prefix = first ? 0 : selection->prefix;
  const int64_t rank = !first ? selection->rank : min_kept < all ? min_kept : all - 1;
  __syncwarp();  // all have read
  // Without any probability the rank is -1, and digit 0 is as good as another.
  if (rank < smaller + sum && (rank >= smaller || digit == 0)) *selection = {prefix << kDigitBits | digit, rank - smaller};
}

template <class L>
struct KeepHard {
  const float* probabilities;
  const Selection* selection;
  float threshold;
  const L* labels;
  L ignore;
  L* hard;

  __device__ void operator()(int64_t i) const {
    const float selected = probability_of(uint32_t(selection->prefix)), limit = selected > threshold ? selected : threshold;
    hard[i] = probabilities[i] < limit ? labels[i] : ignore;
  }
};

__global__ void __launch_bounds__(kLastThreads) report_labels(ClassLabels labels, const int64_t* first_bad, int blocks, int64_t* found) {
  labels.report(first_bad, blocks, found);
}

// min_kept: positions; the result is on the device.
Tensor select(const Tensor& probabilities, int64_t min_kept) {
  const Device device = probabilities.device();
  const int64_t count = probabilities.numel(), chunk = std::max<int64_t>(16 * kThreads, (count + kMostBlocks - 1) / kMostBlocks);
  const unsigned blocks = blocks_for(count, chunk);
  const Tensor counts = Tensor::empty({int64_t(blocks), kDigits}, DType::kInt32, device),
               selection = Tensor::empty({2}, DType::kInt64, device);
  auto* const numbers = static_cast<unsigned*>(counts.raw_data());
  auto* const selected = static_cast<Selection*>(selection.raw_data());
  for (int shift = kProbabilityBits - kDigitBits; shift >= 0; shift -= kDigitBits) {
    launch(device, "hard_examples", Grid{blocks, kThreads}, count_digits, data<float>(probabilities), count, chunk, selected, shift,
           numbers);
    launch(device, "hard_examples", Grid{1, kLastThreads}, pick_digit, numbers, int(blocks), shift + kDigitBits == kProbabilityBits,
           min_kept, selected);
  }
  return selection;
}

}  // namespace

void hard_examples(const Tensor& logits, const Tensor& labels, const HardExamplesOptions& options, Tensor& hard) {
  if (labels.numel() == 0) return;
  if (logits.dtype() == DType::kBFloat16) return hard_examples(logits.to(DType::kFloat32), labels, options, hard);
  const Device device = logits.device();
  int64_t* const found = report_cell(device);
  const ClassLabels view(labels, logits, options.ignore_index);
  const Tensor probabilities = Tensor::empty(labels.shape(), DType::kFloat32, device);
  dispatch_floating(logits.dtype(), "hard_examples", [&]<typename T>() {
    const RowTile tile = row_tile<T>(view.classes, data<T>(logits));
    const unsigned blocks = blocks_of(tile, view.count, kMostBlocks);
    const Tensor bad = Tensor::empty({int64_t(blocks)}, DType::kInt64, device);
    with_row_kind<T>(tile, [&]<class Kind>(Kind) {
      launch(device, "hard_examples", Grid{blocks, tile.threads(), 2 * tile.shared_bytes<T>()}, label_probabilities<T, Kind>, tile,
             data<T>(logits), view, data<float>(probabilities), data<int64_t>(bad));
    });
    launch(device, "hard_examples", Grid{1, kLastThreads}, report_labels, view, data<int64_t>(bad), int(blocks), found);
  });
  const Tensor selection = select(probabilities, options.min_kept);
  dispatch_labels(labels, "hard_examples", [&]<typename L>() {
    for_each(device, "hard_examples", labels.numel(),
             KeepHard<L>{data<float>(probabilities), static_cast<const Selection*>(selection.raw_data()), float(options.threshold),
                         data<L>(labels), L(options.ignore_index), data<L>(hard)});
  });
  report_bad_label("hard_examples", device, found, view, labels.shape());
}

}  // namespace eq::cuda
