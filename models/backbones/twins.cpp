#include "models/backbones/twins.h"

#include "models/backbones/stages.h"

namespace eq {
namespace {

constexpr StageVariant kTwinsVariants[] = {
    {"svt_small", 64, {2, 2, 10, 4}, 2},
    {"svt_base", 96, {2, 2, 18, 2}, 3},
    {"svt_large", 128, {2, 2, 18, 2}, 4},
    {"pcpvt_small", 64, {3, 4, 6, 3}, 1, {1, 2, 5, 8}},
    {"pcpvt_base", 64, {3, 4, 18, 3}, 1, {1, 2, 5, 8}},
    {"pcpvt_large", 64, {3, 8, 27, 3}, 1, {1, 2, 5, 8}},
};
constexpr int64_t kSubsampling[] = {8, 4, 2, 1};
constexpr int64_t kHidden[] = {4, 4, 4, 4}, kHiddenPcpvt[] = {8, 8, 4, 4};  // times the channels, between the linear layers

// The map [N,h,w,C] as rows, [N, h * w, C].
Tensor rows_of(const Tensor& map) { return reshape(map, {map.size(0), map.size(1) * map.size(2), map.size(3)}); }

}  // namespace

LocallyGroupedSelfAttention::LocallyGroupedSelfAttention(int64_t channels, int64_t heads)
    : heads_(heads),
      qkv_(small_weights(register_module<Linear>("qkv", channels, 3 * channels))),
      proj_(small_weights(register_module<Linear>("proj", channels, channels))) {}

Tensor LocallyGroupedSelfAttention::forward(const Tensor& x) {
  const std::vector<Tensor> qkv = split_heads(split_windows(qkv_(x), kWindow, 0), 3, heads_);
  Tensor mask;
  if (x.size(1) % kWindow != 0 || x.size(2) % kWindow != 0) {
    const Tensor inside = split_windows(Tensor::full({1, x.size(1), x.size(2), 1}, 1, x.dtype(), x.device()), kWindow, 0);
    // -1000 where it is padded (mmsegmentation's number): its exponential is 0 in every type. Every window has a pixel that is not.
    mask = reshape(add(mul(inside, 1000), -1000), {inside.size(0), 1, 1, kWindow * kWindow});
  }
  return proj_(join_windows(attention(qkv[0], qkv[1], qkv[2], {}, mask), x.shape(), kWindow, 0));
}

int64_t LocallyGroupedSelfAttention::macs(const Tensor& input, const Tensor&) const {
  return window_attention_macs(input.shape(), kWindow);
}

std::string LocallyGroupedSelfAttention::description() const { return "attention in windows, " + std::to_string(heads_) + " heads"; }

GlobalSubsampledAttention::Projections::Projections(int64_t channels)
    // As the published code's linear layers; mmsegmentation leaves PyTorch's Xavier here.
    : in_weight(register_parameter("in_proj_weight", small_values({3 * channels, channels}))),
      in_bias(register_parameter("in_proj_bias", Tensor::zeros({3 * channels}, init::dtype()))),
      out_proj(small_weights(register_module<Linear>("out_proj", channels, channels))) {}

GlobalSubsampledAttention::GlobalSubsampledAttention(int64_t channels, int64_t heads, int64_t ratio)
    : heads_(heads),
      ratio_(ratio),
      sr_(ratio == 1 ? nullptr
                     : &register_module<Conv2d>("sr", channels, channels, Conv2dLayerOptions{.kernel_size = ratio, .stride = ratio})),
      norm_(ratio == 1 ? nullptr : &register_module<LayerNorm>("norm", channels)),
      attn_(register_module<Projections>("attn", channels)) {}

Tensor GlobalSubsampledAttention::forward(const Tensor& x) {
  const int64_t channels = x.size(3);
  const std::vector<int64_t> extents = {channels, 2 * channels};  // of the query's projection and the pairs'
  const std::vector<Tensor> weights = split(in_type_of(x, attn_.in_weight), extents, 0);
  const std::vector<Tensor> biases = split(in_type_of(x, attn_.in_bias), extents, 0);
  const Tensor query = split_heads(linear(rows_of(x), weights[0], biases[0]), 1, heads_)[0];
  const Tensor map = sr_ ? (*norm_)((*sr_)(x)) : x;
  const std::vector<Tensor> pairs = split_heads(linear(rows_of(map), weights[1], biases[1]), 2, heads_);
  return reshape(attn_.out_proj(attention(query, pairs[0], pairs[1])), x.shape());
}

int64_t GlobalSubsampledAttention::macs(const Tensor& input, const Tensor&) const {
  const int64_t keys = (input.size(1) / ratio_) * (input.size(2) / ratio_), channels = input.size(3);
  return 2 * input.numel() * keys + (input.numel() + 2 * input.size(0) * keys * channels) * channels;
}

std::string GlobalSubsampledAttention::description() const {
  return "global attention" + (ratio_ > 1 ? " 1/" + std::to_string(ratio_) : "") + ", " + std::to_string(heads_) + " heads";
}

ConditionalPositionEncoding::ConditionalPositionEncoding(int64_t channels)
    : proj_(register_module<Conv2d>("proj", channels, channels, Conv2dLayerOptions{.kernel_size = 3, .padding = 1, .groups = channels})) {}

// Convolutions start as Conv2d does, He-normal by fan-out: so does the published code.
Twins::Twins(const BackboneOptions& options) {
  const StagePlan plan = plan_stages(kTwinsVariants, options);
  const bool pcpvt = options.variant.starts_with("pcpvt");
  level_channels_ = plan.channels;
  auto& embeds = register_module<ModuleList<PatchEmbed>>("patch_embeds");
  auto& layers = register_module<ModuleList<ModuleList<Layer>>>("layers");
  auto& positions = register_module<ModuleList<ConditionalPositionEncoding>>("position_encodings");
  auto* norms = pcpvt ? nullptr : &register_module<ModuleList<LayerNorm>>("norm_list");
  for (int i = 0; i < 4; ++i) {
    const int64_t channels = plan.channels[i], heads = plan.heads[i], hidden = (pcpvt ? kHiddenPcpvt : kHidden)[i] * channels;
    PatchEmbed& embed = i == 0 ? embeds.append(3, channels, 4) : embeds.append(plan.channels[i - 1], channels, 2);
    auto& blocks = layers.append();
    for (int block = 0; block < plan.blocks[i]; ++block) {
      const double drop_path = plan.drop_path[i][block];
      if (pcpvt || block % 2 == 1) {
        blocks.append<TransformerBlock<GlobalSubsampledAttention>>(channels, hidden, drop_path, heads, kSubsampling[i]);
      } else {
        blocks.append<TransformerBlock<LocallyGroupedSelfAttention>>(channels, hidden, drop_path, heads);
      }
    }
    stages_.push_back({&embed, &blocks, &positions.append(channels), norms ? &norms->append(channels) : nullptr});
  }
}

std::vector<std::string> Twins::order_of_use() const {
  std::vector<std::string> order;
  for (const char* i : {"0.", "1.", "2.", "3."}) {
    const std::string stage = i;
    order.insert(order.end(), {"patch_embeds." + stage, "layers." + stage + "0.", "position_encodings." + stage, "layers." + stage,
                               "norm_list." + stage});
  }
  return order;
}

std::vector<Tensor> Twins::forward(const Tensor& images) {
  Tensor x = images;
  std::vector<Tensor> levels;
  for (const Stage& stage : stages_) {
    x = (*stage.embed)(x);
    for (size_t block = 0; block < stage.blocks->size(); ++block) {
      x = (*stage.blocks)[block](x);
      if (block == 0) x = (*stage.position)(x);
    }
    if (stage.norm) x = (*stage.norm)(x);
    levels.push_back(x);
  }
  return levels;
}

}  // namespace eq
