#include <set>

#include "layers/fusion.h"
#include "training/optimizer.h"

namespace eq {

std::vector<OptimizerParameter> optimizer_parameters(Module& model) {
  std::set<std::string> norms;
  for (const Module::NamedModule& named : model.named_modules()) {
    Module* module = named.module;
    if (dynamic_cast<BatchNorm2d*>(module) || dynamic_cast<LayerNorm*>(module) || dynamic_cast<GroupNorm*>(module) ||
        dynamic_cast<L2Norm*>(module) || dynamic_cast<LearnableEqualizer*>(module)) {
      norms.insert(named.name);
    }
  }
  std::vector<OptimizerParameter> parameters;
  for (const Module::NamedTensor& named : model.named_parameters()) {
    const size_t dot = named.name.rfind('.');
    const std::string owner = dot == std::string::npos ? "" : named.name.substr(0, dot);
    parameters.push_back({.name = named.name, .tensor = named.tensor, .is_norm = norms.count(owner) > 0});
  }
  for (const FusionSite* site : modules_of<FusionSite>(model)) {
    if (!site->unit().defined()) continue;
    const Conv2d& conv = *site->fusion().conv;
    for (OptimizerParameter& parameter : parameters) {
      if (!parameter.tensor.is_same(conv.weight())) continue;
      parameter.unit = site->unit();
      parameter.groups = conv.options().groups;
    }
  }
  return parameters;
}

}  // namespace eq
