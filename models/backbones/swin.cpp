#include "models/backbones/swin.h"

#include "core/kernels/windows.h"
#include "models/backbones/stages.h"

namespace eq {
namespace {

constexpr StageVariant kSwinVariants[] = {{"tiny", 96, {2, 2, 6, 2}, 3}, {"small", 96, {2, 2, 18, 2}, 3}, {"base", 128, {2, 2, 18, 2}, 4}};
constexpr int64_t kPatch = 4;

constexpr size_t kMostMasks = 16;  // four stages of four picture sizes

bool fits(const Tensor& kept, const Tensor& like) {
  return kept.defined() && kept.dtype() == like.dtype() && kept.device() == like.device();
}

// Modules whose only use is their name.
class Container : public Module {
 public:
  using Module::register_module;
};

}  // namespace

Tensor WindowConstants::offsets() {
  Tensor offsets = Tensor::empty({kCells, kCells}, DType::kInt64);
  for (int64_t i = 0; i < kCells; ++i) {
    for (int64_t j = 0; j < kCells; ++j) {
      const int64_t rows = i / kSize - j / kSize + kSize - 1, columns = i % kSize - j % kSize + kSize - 1;
      offsets.data<int64_t>()[i * kCells + j] = rows * (2 * kSize - 1) + columns;
    }
  }
  return offsets;
}

Tensor WindowConstants::picks(const Tensor& like) {
  const std::lock_guard lock(mutex_);
  if (fits(picks_, like)) return picks_;
  const Tensor offset = offsets();
  Tensor picks = Tensor::zeros({kCells * kCells, kOffsets});
  for (int64_t i = 0; i < kCells * kCells; ++i) picks.data<float>()[i * kOffsets + offset.data<int64_t>()[i]] = 1;
  return picks_ = picks.to(like.dtype()).to(like.device());
}

Tensor WindowConstants::mask(const Tensor& like, const Shape& image) {
  const WindowGrid grid(image, kSize, kShift);
  const std::pair key(grid.h.count, grid.w.count);
  const std::lock_guard lock(mutex_);
  if (masks_.size() == kMostMasks && !masks_.contains(key)) masks_.clear();
  Tensor& kept = masks_[key];
  if (fits(kept, like)) return kept;
  // Of the padded image rolled by -kShift, the last kShift rows were the first ones, and the rest of the last windows was not next to them.
  const auto region = [&](const WindowAxis& axis, int64_t cell) {
    return cell < axis.cells() - kSize ? 0 : cell < axis.cells() - kShift ? 1 : 2;
  };
  const int64_t windows = grid.h.count * grid.w.count;
  std::vector<int> region_of(size_t(windows * kCells));
  for (int64_t i = 0; i < grid.h.cells(); ++i) {
    for (int64_t j = 0; j < grid.w.cells(); ++j) region_of[size_t(grid.row(0, i, j))] = 3 * region(grid.h, i) + region(grid.w, j);
  }
  Tensor mask = Tensor::empty({windows, 1, kCells, kCells});
  for (int64_t at = 0; at < mask.numel(); ++at) {
    const int64_t query = at / kCells, other = at / (kCells * kCells) * kCells + at % kCells;
    mask.data<float>()[at] = region_of[size_t(query)] == region_of[size_t(other)] ? 0.f : -100.f;
  }
  return kept = mask.to(like.dtype()).to(like.device());
}

WindowAttention::Projections::Projections(int64_t channels, int64_t heads)
    : table(register_parameter("relative_position_bias_table", small_values({WindowConstants::kOffsets, heads}))),
      qkv(small_weights(register_module<Linear>("qkv", channels, 3 * channels))),
      proj(small_weights(register_module<Linear>("proj", channels, channels))) {
  register_buffer("relative_position_index", WindowConstants::offsets());
}

WindowAttention::WindowAttention(int64_t channels, int64_t heads, int64_t shift, WindowConstants& constants)
    : heads_(heads), shift_(shift), constants_(constants), w_msa_(register_module<Projections>("w_msa", channels, heads)) {}

Tensor WindowAttention::forward(const Tensor& x) {
  const std::vector<Tensor> qkv = split_heads(w_msa_.qkv(split_windows(x, WindowConstants::kSize, shift_)), 3, heads_);
  const Tensor bias = permute(matmul(constants_.picks(x), in_type_of(x, w_msa_.table)), {1, 0});  // [heads, cells * cells]
  const Tensor mixed = attention(qkv[0], qkv[1], qkv[2], reshape(bias, {1, heads_, WindowConstants::kCells, WindowConstants::kCells}),
                                 shift_ > 0 ? constants_.mask(x, x.shape()) : Tensor());
  return join_windows(w_msa_.proj(mixed), x.shape(), WindowConstants::kSize, shift_);
}

int64_t WindowAttention::macs(const Tensor& input, const Tensor&) const {
  return window_attention_macs(input.shape(), WindowConstants::kSize);
}

std::string WindowAttention::description() const {
  return "attention in windows, " + std::to_string(heads_) + " heads" + (shift_ > 0 ? ", shifted" : "");
}

PatchMerging::PatchMerging(int64_t channels)
    : norm_(register_module<LayerNorm>("norm", 4 * channels)),
      reduction_(register_module<Linear>("reduction", 4 * channels, 2 * channels, false)) {
  small_weights(reduction_);
}

Tensor PatchMerging::forward(const Tensor& x) {
  const Tensor even = pad_to(x, 2);
  const int64_t n = even.size(0), h = even.size(1) / 2, w = even.size(2) / 2, channels = even.size(3);
  const Tensor squares = permute(reshape(even, {n, h, 2, w, 2, channels}), {0, 1, 3, 5, 2, 4});
  return reduction_(norm_(reshape(squares, {n, h, w, 4 * channels})));
}

SwinTransformer::SwinTransformer(const BackboneOptions& options) {
  const StagePlan plan = plan_stages(kSwinVariants, options);
  level_channels_ = plan.channels;
  patch_embed_ = &register_module<PatchEmbed>("patch_embed", 3, plan.channels[0], kPatch);
  small_weights(patch_embed_->projection());
  auto& stages = register_module<ModuleList<Container>>("stages");
  for (int i = 0; i < 4; ++i) {
    const int64_t channels = plan.channels[i];
    Container& stage = stages.append();
    auto& blocks = stage.register_module<Sequential>("blocks");
    for (int block = 0; block < plan.blocks[i]; ++block) {
      blocks.append<TransformerBlock<WindowAttention>>(channels, 4 * channels, plan.drop_path[i][block], plan.heads[i],
                                                       block % 2 * WindowConstants::kShift, constants_);
    }
    stages_.push_back({&blocks, i < 3 ? &stage.register_module<PatchMerging>("downsample", channels) : nullptr, nullptr});
  }
  for (int i = 0; i < 4; ++i) stages_[i].norm = &register_module<LayerNorm>("norm" + std::to_string(i), plan.channels[i]);
}

std::vector<Tensor> SwinTransformer::forward(const Tensor& images) {
  Tensor x = (*patch_embed_)(images);
  std::vector<Tensor> levels;
  for (const Stage& stage : stages_) {
    x = (*stage.blocks)(x);
    levels.push_back((*stage.norm)(x));
    if (stage.downsample) x = (*stage.downsample)(x);
  }
  return levels;
}

}  // namespace eq
