#include "models/backbones/hrnet.h"

#include "core/nearest.h"
#include "models/backbones/residual_blocks.h"

namespace eq {
namespace {

struct Variant {
  const char* name;
  int64_t channels;     // of the finest branch; each coarser one has twice as many
  int bottlenecks;      // in layer1
  int blocks;           // on a branch between two exchanges
  int modules[3];       // exchanges in stages 2, 3, 4
};
constexpr Variant kHrnetVariants[] = {{"w18_small", 18, 2, 2, {1, 3, 2}},
                                      {"w18", 18, 4, 4, {1, 4, 3}},
                                      {"w32", 32, 4, 4, {1, 4, 3}},
                                      {"w40", 40, 4, 4, {1, 4, 3}},
                                      {"w48", 48, 4, 4, {1, 4, 3}}};
constexpr int64_t kStemChannels = 64;

void append_conv_norm(Sequential& path, int64_t in, int64_t out, int64_t kernel_size, int64_t stride, bool relu) {
  path.append<Conv2d>(in, out, Conv2dLayerOptions{.kernel_size = kernel_size, .stride = stride, .padding = kernel_size / 2, .bias = false});
  path.append<BatchNorm2d>(out, BatchNorm2dOptions{.relu = relu});
}

}  // namespace

HRTransition::HRTransition(const std::vector<int64_t>& before, const std::vector<int64_t>& after) {
  for (size_t i = 0; i < after.size(); ++i) {
    const bool is_new = i >= before.size();
    paths_.push_back(nullptr);
    if (!is_new && before[i] == after[i]) continue;
    paths_[i] = &register_module<Sequential>(std::to_string(i));
    Sequential& path = is_new ? paths_[i]->append<Sequential>() : *paths_[i];
    append_conv_norm(path, is_new ? before.back() : before[i], after[i], 3, is_new ? 2 : 1, true);
  }
}

std::vector<Tensor> HRTransition::forward(const std::vector<Tensor>& branches) {
  std::vector<Tensor> next;
  for (size_t i = 0; i < paths_.size(); ++i) {
    next.push_back(paths_[i] ? (*paths_[i])(i < branches.size() ? branches[i] : branches.back()) : branches[i]);
  }
  return next;
}

HRFuseRow::HRFuseRow(size_t target, const std::vector<int64_t>& channels) : target_(target) {
  for (size_t from = 0; from < channels.size(); ++from) {
    paths_.push_back(from == target ? nullptr : &register_module<Sequential>(std::to_string(from)));
    if (from > target) {
      append_conv_norm(*paths_[from], channels[from], channels[target], 1, 1, false);
      paths_[from]->append<Upsample>(double(int64_t{1} << (from - target)), false);
    }
    for (size_t at = from; at < target; ++at) {  // halves the size at each step; the last one changes the channels
      const bool last = at + 1 == target;
      append_conv_norm(paths_[from]->append<Sequential>(), channels[from], channels[last ? target : from], 3, 2, !last);
    }
  }
}

Tensor HRFuseRow::forward(const std::vector<Tensor>& branches) {
  const Tensor& target = branches[target_];
  Tensor sum;
  for (size_t from = 0; from < branches.size(); ++from) {
    Tensor part = paths_[from] ? (*paths_[from])(branches[from]) : target;
    // Sizes that are not multiples of 32: twice the coarser size may be one more than the finer.
    if (part.size(1) != target.size(1) || part.size(2) != target.size(2)) {
      part = resize_bilinear(part, target.size(1), target.size(2), false);
    }
    sum = sum.defined() ? add(sum, part) : part;
  }
  return relu(sum);
}

HRModule::HRModule(const std::vector<int64_t>& channels, int blocks)
    : branches_(register_module<ModuleList<Sequential>>("branches")), fuse_layers_(register_module<ModuleList<HRFuseRow>>("fuse_layers")) {
  for (size_t i = 0; i < channels.size(); ++i) append_blocks<BasicBlock>(branches_.append(), blocks, {channels[i], channels[i]});
  for (size_t i = 0; i < channels.size(); ++i) fuse_layers_.append(i, channels);
}

std::vector<Tensor> HRModule::forward(std::vector<Tensor> branches) {
  for (size_t i = 0; i < branches.size(); ++i) branches[i] = branches_[i](branches[i]);
  std::vector<Tensor> fused;
  for (size_t i = 0; i < branches.size(); ++i) fused.push_back(fuse_layers_[i].forward(branches));
  return fused;
}

HRNet::HRNet(const BackboneOptions& options) {
  const std::string name = options.variant.empty() ? "w18_small" : options.variant;
  const Variant& variant = find_named(kHrnetVariants, name, "HRNet", "model.backbone.variant");
  const Conv2dLayerOptions halve{.kernel_size = 3, .stride = 2, .padding = 1, .bias = false};
  stem_.push_back(&register_module<Conv2d>("conv1", 3, kStemChannels, halve));
  stem_.push_back(&register_module<BatchNorm2d>("bn1", kStemChannels, BatchNorm2dOptions{.relu = true}));
  stem_.push_back(&register_module<Conv2d>("conv2", kStemChannels, kStemChannels, halve));
  stem_.push_back(&register_module<BatchNorm2d>("bn2", kStemChannels, BatchNorm2dOptions{.relu = true}));
  auto& layer1 = register_module<Sequential>("layer1");
  std::vector<int64_t> channels{append_blocks<Bottleneck>(layer1, variant.bottlenecks, {kStemChannels, kStemChannels})};
  stem_.push_back(&layer1);
  for (int i = 0; i < 3; ++i) {
    level_channels_.assign(1, variant.channels);
    while (int(level_channels_.size()) < i + 2) level_channels_.push_back(2 * level_channels_.back());
    auto& transition = register_module<HRTransition>("transition" + std::to_string(i + 1), channels, level_channels_);
    auto& modules = register_module<ModuleList<HRModule>>("stage" + std::to_string(i + 2));
    for (int module = 0; module < variant.modules[i]; ++module) modules.append(level_channels_, variant.blocks);
    stages_.push_back({&transition, &modules});
    channels = level_channels_;
  }
}

std::vector<Tensor> HRNet::forward(const Tensor& images) {
  std::vector<Tensor> branches{forward_in_order(stem_, images)};
  for (const Stage& stage : stages_) {
    branches = stage.transition->forward(branches);
    for (size_t i = 0; i < stage.modules->size(); ++i) branches = (*stage.modules)[i].forward(std::move(branches));
  }
  return branches;
}

}  // namespace eq
