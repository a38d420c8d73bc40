#include "models/backbones/swin.h"

#include <cmath>

#include "core/kernels/windows.h"
#include "models/backbones/stages.h"

namespace eq {
namespace {

constexpr StageVariant kVariants[] = {{"tiny", 96, {2, 2, 6, 2}}, {"small", 96, {2, 2, 18, 2}}, {"base", 128, {2, 2, 18, 2}}};
constexpr int64_t kShift = WindowConstants::kSize / 2, kPatch = 4;

// Zeros at the bottom and right, up to whole multiples of `unit`.
Tensor pad_to(const Tensor& x, int64_t unit) {
  const int64_t bottom = (unit - x.size(1) % unit) % unit, right = (unit - x.size(2) % unit) % unit;
  return bottom == 0 && right == 0 ? x : pad2d(x, 0, bottom, 0, right);
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

const Tensor& WindowConstants::picks(const Tensor& like) {
  if (picks_.defined() && picks_.dtype() == like.dtype() && picks_.device() == like.device()) return picks_;
  const Tensor offset = offsets();
  Tensor picks = Tensor::zeros({kCells * kCells, kOffsets});
  for (int64_t i = 0; i < kCells * kCells; ++i) picks.data<float>()[i * kOffsets + offset.data<int64_t>()[i]] = 1;
  return picks_ = picks.to(like.dtype()).to(like.device());
}

const Tensor& WindowConstants::mask(const Tensor& like, const Shape& image, int64_t shift) {
  const WindowGrid grid(image, kSize, shift);
  if (mask_.defined() && mask_h_ == grid.h.count && mask_w_ == grid.w.count && mask_.dtype() == like.dtype() && mask_.device() == like.device()) return mask_;
  // Of the padded image rolled by -shift, the last `shift` rows were the first ones, and the rest of the last windows was not next to them.
  const auto region = [&](const WindowAxis& axis, int64_t cell) { return cell < axis.cells() - kSize ? 0 : cell < axis.cells() - shift ? 1 : 2; };
  const int64_t windows = grid.h.count * grid.w.count;
  std::vector<int> region_of(size_t(windows * kCells));
  for (int64_t i = 0; i < grid.h.cells(); ++i) {
    for (int64_t j = 0; j < grid.w.cells(); ++j) region_of[size_t(grid.row(0, i, j))] = 3 * region(grid.h, i) + region(grid.w, j);
  }
  Tensor mask = Tensor::empty({windows, 1, kCells, kCells});
  for (int64_t at = 0; at < mask.numel(); ++at) {
    const int64_t query = at / kCells, key = at / (kCells * kCells) * kCells + at % kCells;
    mask.data<float>()[at] = region_of[size_t(query)] == region_of[size_t(key)] ? 0.f : -100.f;
  }
  mask_h_ = grid.h.count, mask_w_ = grid.w.count;
  return mask_ = mask.to(like.dtype()).to(like.device());
}

WindowAttention::Projections::Projections(int64_t channels, int64_t heads)
    : table([&] {
        Tensor values = Tensor::empty({WindowConstants::kOffsets, heads}, init::dtype());
        init::normal_(values, 0, 0.02);
        return register_parameter("relative_position_bias_table", values);
      }()),
      qkv(small_weights(register_module<Linear>("qkv", channels, 3 * channels))),
      proj(small_weights(register_module<Linear>("proj", channels, channels))) {
  register_buffer("relative_position_index", WindowConstants::offsets());
}

WindowAttention::WindowAttention(int64_t channels, int64_t heads, int64_t shift, WindowConstants& constants)
    : heads_(heads), shift_(shift), constants_(constants), w_msa_(register_module<Projections>("w_msa", channels, heads)) {}

Tensor WindowAttention::forward(const Tensor& x) {
  const Tensor windows = split_windows(x, WindowConstants::kSize, shift_);
  const int64_t count = windows.size(0), cells = WindowConstants::kCells, channels = x.size(3), depth = channels / heads_;
  const Tensor qkv = permute(reshape(w_msa_.qkv(windows), {count, cells, 3, heads_, depth}), {2, 0, 3, 1, 4});
  const auto part = [&](int64_t i) { return reshape(slice(qkv, 0, i, i + 1), {count, heads_, cells, depth}); };
  const Tensor query = mul(part(0), 1 / std::sqrt(double(depth))), key = part(1), value = part(2);

  const Tensor bias = permute(matmul(constants_.picks(x), in_type_of(x, w_msa_.table)), {1, 0});  // [heads, cells * cells]
  Tensor scores = add(matmul(query, transpose(key, 2, 3)), reshape(bias, {1, heads_, cells, cells}));
  if (shift_ > 0) {
    const Tensor& mask = constants_.mask(x, x.shape(), shift_);
    scores = add(reshape(scores, {x.size(0), mask.size(0), heads_, cells, cells}), mask);
    scores = reshape(scores, {count, heads_, cells, cells});
  }
  const Tensor mixed = reshape(permute(matmul(softmax(scores), value), {0, 2, 1, 3}), {count, cells, channels});
  return join_windows(w_msa_.proj(mixed), x.shape(), WindowConstants::kSize, shift_);
}

int64_t WindowAttention::macs(const Tensor& input, const Tensor&) const {
  return 2 * WindowGrid(input.shape(), WindowConstants::kSize, shift_).windows(input.shape()).numel() * WindowConstants::kCells;
}

std::string WindowAttention::description() const {
  return "attention in windows, " + std::to_string(heads_) + " heads" + (shift_ > 0 ? ", shifted" : "");
}

SwinBlock::SwinBlock(int64_t channels, int64_t heads, int64_t shift, double drop_path, WindowConstants& constants)
    : norm1_(register_module<LayerNorm>("norm1", channels)),
      attn_(register_module<WindowAttention>("attn", channels, heads, shift, constants)),
      norm2_(register_module<LayerNorm>("norm2", channels)),
      ffn_(&register_module<Container>("ffn").register_module<Sequential>("layers")),
      path1_(register_module<Dropout>("attn_path", drop_path, Dropout::Kind::kSample)),
      path2_(register_module<Dropout>("ffn_path", drop_path, Dropout::Kind::kSample)) {
  auto& first = ffn_->append<Sequential>();
  small_weights(first.append<Linear>(channels, 4 * channels));
  first.append<Activation>(gelu, "GELU");
  small_weights(ffn_->append<Linear>(4 * channels, channels));
}

Tensor SwinBlock::forward(const Tensor& x) {
  const Tensor attended = add(x, path1_(attn_(norm1_(x))));
  return add(attended, path2_((*ffn_)(norm2_(attended))));
}

PatchMerging::PatchMerging(int64_t channels)
    : norm_(register_module<LayerNorm>("norm", 4 * channels)), reduction_(register_module<Linear>("reduction", 4 * channels, 2 * channels, false)) {
  small_weights(reduction_);
}

Tensor PatchMerging::forward(const Tensor& x) {
  const Tensor even = pad_to(x, 2);
  const int64_t n = even.size(0), h = even.size(1) / 2, w = even.size(2) / 2, channels = even.size(3);
  const Tensor squares = permute(reshape(even, {n, h, 2, w, 2, channels}), {0, 1, 3, 5, 2, 4});
  return reduction_(norm_(reshape(squares, {n, h, w, 4 * channels})));
}

SwinTransformer::SwinTransformer(const BackboneOptions& options) {
  const int64_t first_heads = options.variant == "base" ? 4 : 3;
  const StagePlan plan = plan_stages(kVariants, options, first_heads);
  level_channels_ = plan.channels;
  auto& patch_embed = register_module<Container>("patch_embed");
  projection_ = &small_weights(patch_embed.register_module<Conv2d>("projection", 3, plan.channels[0], Conv2dLayerOptions{.kernel_size = kPatch, .stride = kPatch}));
  patch_norm_ = &patch_embed.register_module<LayerNorm>("norm", plan.channels[0]);
  auto& stages = register_module<ModuleList<Container>>("stages");
  for (int i = 0; i < 4; ++i) {
    const int64_t channels = plan.channels[i], heads = first_heads << i;
    Container& stage = stages.append();
    auto& blocks = stage.register_module<Sequential>("blocks");
    for (int block = 0; block < plan.blocks[i]; ++block) {
      blocks.append<SwinBlock>(channels, heads, block % 2 * kShift, plan.drop_path[i][block], constants_);
    }
    stages_.push_back({&blocks, i < 3 ? &stage.register_module<PatchMerging>("downsample", channels) : nullptr, nullptr});
  }
  for (int i = 0; i < 4; ++i) stages_[i].norm = &register_module<LayerNorm>("norm" + std::to_string(i), plan.channels[i]);
}

std::vector<Tensor> SwinTransformer::forward(const Tensor& images) {
  Tensor x = (*patch_norm_)((*projection_)(pad_to(images, kPatch)));
  std::vector<Tensor> levels;
  for (const Stage& stage : stages_) {
    x = (*stage.blocks)(x);
    levels.push_back((*stage.norm)(x));
    if (stage.downsample) x = (*stage.downsample)(x);
  }
  return levels;
}

}  // namespace eq
