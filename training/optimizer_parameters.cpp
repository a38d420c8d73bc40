#include <set>

#include "layers/layers.h"
#include "training/optimizer.h"

namespace eq {

std::vector<OptimizerParameter> optimizer_parameters(Module& model) {
  std::set<std::string> norms;
  for (const Module::NamedModule& named : model.named_modules()) {
    Module* module = named.module;
    if (dynamic_cast<BatchNorm2d*>(module) || dynamic_cast<LayerNorm*>(module) || dynamic_cast<GroupNorm*>(module)) norms.insert(named.name);
  }
  std::vector<OptimizerParameter> parameters;
  for (const Module::NamedTensor& named : model.named_parameters()) {
    const size_t dot = named.name.rfind('.');
    const std::string owner = dot == std::string::npos ? "" : named.name.substr(0, dot);
    parameters.push_back({.name = named.name, .tensor = named.tensor, .is_norm = norms.count(owner) > 0});
  }
  return parameters;
}

}  // namespace eq
