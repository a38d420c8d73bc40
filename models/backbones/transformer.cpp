#include "models/backbones/transformer.h"

#include <cmath>

#include "core/kernels/windows.h"
#include "models/backbones/stages.h"

namespace eq {

std::vector<Tensor> split_heads(const Tensor& x, int64_t parts, int64_t heads) {
  const int64_t batch = x.size(0), count = x.size(1), depth = x.size(2) / (parts * heads);
  const Tensor sorted = permute(reshape(x, {batch, count, parts, heads, depth}), {2, 0, 3, 1, 4});
  std::vector<Tensor> result = split(sorted, std::vector<int64_t>(size_t(parts), 1), 0);
  for (Tensor& part : result) part = reshape(part, {batch, heads, count, depth});
  return result;
}

Tensor attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& bias, const Tensor& mask) {
  const int64_t batch = query.size(0), heads = query.size(1), count = query.size(2), depth = query.size(3), keys = key.size(2);
  Tensor scores = matmul(mul(query, 1 / std::sqrt(double(depth))), key, true);
  if (bias.defined()) scores = add(scores, bias);
  if (mask.defined()) {
    const int64_t windows = mask.size(0);
    scores = reshape(add(reshape(scores, {batch / windows, windows, heads, count, keys}), mask), {batch, heads, count, keys});
  }
  return reshape(permute(matmul(softmax(scores), value), {0, 2, 1, 3}), {batch, count, heads * depth});
}

int64_t window_attention_macs(const Shape& map, int64_t window) {
  return 2 * WindowGrid(map, window, 0).windows(map).numel() * window * window;
}

FeedForward::FeedForward(int64_t channels, int64_t hidden) : layers_(register_module<Sequential>("layers")) {
  auto& first = layers_.append<Sequential>();
  small_weights(first.append<Linear>(channels, hidden));
  first.append<Activation>(gelu, "GELU");
  small_weights(layers_.append<Linear>(hidden, channels));
}

Tensor pad_to(const Tensor& x, int64_t unit) {
  const int64_t bottom = (unit - x.size(1) % unit) % unit, right = (unit - x.size(2) % unit) % unit;
  return bottom == 0 && right == 0 ? x : pad2d(x, 0, bottom, 0, right);
}

PatchEmbed::PatchEmbed(int64_t in_channels, int64_t channels, int64_t size)
    : size_(size),
      projection_(register_module<Conv2d>("projection", in_channels, channels, Conv2dLayerOptions{.kernel_size = size, .stride = size})),
      norm_(register_module<LayerNorm>("norm", channels)) {}

}  // namespace eq
