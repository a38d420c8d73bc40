#include "models/weight_names.h"

#include <array>
#include <optional>
#include <vector>

#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

// Beginnings of names, of whole parts between dots; what follows is the same for all. "{s}" (a stage) and "{b}" (a block) stand for
// numbers, which the others may count differently: "{2s+1}". The first row that fits is taken; null: no other name than ours.
struct NameRule {
  std::array<const char*, 4> names;  // by dialect: ours, timm's since 0.9, the original, torchvision's
  bool merges_patches = false;
};

constexpr NameRule kRules[] = {
    // Swin
    {{"patch_embed.projection", "patch_embed.proj", "patch_embed.proj", "features.0.0"}},
    {{"patch_embed.norm", "patch_embed.norm", "patch_embed.norm", "features.0.2"}},
    {{"stages.{s}.blocks.{b}.attn.w_msa", "layers.{s}.blocks.{b}.attn", "layers.{s}.blocks.{b}.attn", "features.{2s+1}.{b}.attn"}},
    {{"stages.{s}.blocks.{b}.ffn.layers.0.0", "layers.{s}.blocks.{b}.mlp.fc1", "layers.{s}.blocks.{b}.mlp.fc1",
      "features.{2s+1}.{b}.mlp.0"}},
    {{"stages.{s}.blocks.{b}.ffn.layers.1", "layers.{s}.blocks.{b}.mlp.fc2", "layers.{s}.blocks.{b}.mlp.fc2", "features.{2s+1}.{b}.mlp.3"}},
    {{"stages.{s}.blocks.{b}", "layers.{s}.blocks.{b}", "layers.{s}.blocks.{b}", "features.{2s+1}.{b}"}},
    {{"stages.{s}.downsample", "layers.{s+1}.downsample", "layers.{s}.downsample", "features.{2s+2}"}, true},
    // ConvNeXt
    {{"downsample_layers.0", "stem", "downsample_layers.0", "features.0"}},
    {{"downsample_layers.{s}", "stages.{s}.downsample", "downsample_layers.{s}", "features.{2s}"}},
    {{"stages.{s}.{b}.depthwise_conv", "stages.{s}.blocks.{b}.conv_dw", "stages.{s}.{b}.dwconv", "features.{2s+1}.{b}.block.0"}},
    {{"stages.{s}.{b}.norm", "stages.{s}.blocks.{b}.norm", "stages.{s}.{b}.norm", "features.{2s+1}.{b}.block.2"}},
    {{"stages.{s}.{b}.pointwise_conv1", "stages.{s}.blocks.{b}.mlp.fc1", "stages.{s}.{b}.pwconv1", "features.{2s+1}.{b}.block.3"}},
    {{"stages.{s}.{b}.pointwise_conv2", "stages.{s}.blocks.{b}.mlp.fc2", "stages.{s}.{b}.pwconv2", "features.{2s+1}.{b}.block.5"}},
    {{"stages.{s}.{b}.gamma", "stages.{s}.blocks.{b}.gamma", "stages.{s}.{b}.gamma", "features.{2s+1}.{b}.layer_scale"}},
    // ResNet's stem of three convolutions. The other stem and the layers have the same names everywhere.
    {{"stem.0", "conv1.0", nullptr, nullptr}},
    {{"stem.1", "conv1.1", nullptr, nullptr}},
    {{"stem.3", "conv1.3", nullptr, nullptr}},
    {{"stem.4", "conv1.4", nullptr, nullptr}},
    {{"stem.6", "conv1.6", nullptr, nullptr}},
    {{"stem.7", "bn1", nullptr, nullptr}},
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct Match {
  std::map<char, int> numbers;  // by their letter
  std::string rest;             // empty, or from a dot on
};

std::optional<Match> match(const std::string& pattern, const std::string& name) {
  Match found;
  size_t at = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '{') {
      const size_t begin = at;
      while (at < name.size() && is_digit(name[at]) && at - begin < 4) ++at;
      if (at == begin) return std::nullopt;
      found.numbers[pattern[i + 1]] = std::stoi(name.substr(begin, at - begin));
      i += 2;
    } else if (at == name.size() || name[at++] != pattern[i]) {
      return std::nullopt;
    }
  }
  found.rest = name.substr(at);
  if (!found.rest.empty() && found.rest[0] != '.') return std::nullopt;
  return found;
}

// Of "{2s+1}", the value between the braces; factor and summand have one digit each.
std::string filled(const std::string& pattern, const Match& match) {
  std::string name;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '{') {
      name += pattern[i];
      continue;
    }
    ++i;
    const int factor = is_digit(pattern[i]) ? pattern[i++] - '0' : 1;
    const int number = match.numbers.at(pattern[i++]);
    const int summand = pattern[i] == '+' ? pattern[i + 1] - '0' : 0;
    name += std::to_string(factor * number + summand);
    i = pattern.find('}', i);
  }
  return name + match.rest;
}

Shape without_ones(const Shape& shape) {
  std::vector<int64_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] != 1) sizes.push_back(shape[axis]);
  }
  return Shape(sizes);
}

}  // namespace

std::string owner(Dialect dialect) {
  switch (dialect) {
    case Dialect::kTimm: return "timm's";
    case Dialect::kOriginal: return "the original repository's";
    case Dialect::kTorchvision: return "torchvision's";
    case Dialect::kOurs: break;
  }
  return "mmsegmentation's";
}

ForeignName name_in(Dialect dialect, const std::string& name) {
  if (dialect == Dialect::kOurs) return {name};
  for (const NameRule& rule : kRules) {
    const std::optional<Match> found = match(rule.names[0], name);
    if (!found) continue;
    const char* theirs = rule.names[size_t(dialect)];
    return {theirs ? filled(theirs, *found) : name, rule.merges_patches};
  }
  return {name};
}

Dialect recognise(const std::map<std::string, Tensor>& file, const std::map<std::string, Tensor>& state) {
  Dialect best = Dialect::kOurs;
  std::pair<int, int> most{-1, -1};
  for (const Dialect dialect : {Dialect::kOurs, Dialect::kTimm, Dialect::kOriginal, Dialect::kTorchvision}) {
    std::pair<int, int> found{0, 0};  // names, those with a shape that fits
    for (const auto& [name, tensor] : state) {
      const auto entry = file.find(name_in(dialect, name).name);
      if (entry == file.end()) continue;
      ++found.first;
      if (same_values(entry->second.shape(), tensor.shape())) ++found.second;
    }
    if (found > most) best = dialect, most = found;
  }
  return best;
}

bool same_values(const Shape& a, const Shape& b) { return without_ones(a) == without_ones(b); }

Tensor unfold_order(const Tensor& values) {
  const NoGradGuard no_grad;
  const int64_t channels = values.size(-1) / 4;
  return reshape(permute(reshape(values, {values.numel() / (4 * channels), 2, 2, channels}), {0, 3, 2, 1}), values.shape());
}

}  // namespace eq
