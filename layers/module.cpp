#include "layers/module.h"

#include <algorithm>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/words.h"

namespace eq {
namespace {

// [O,kh,kw,I] <-> [O,I,kh,kw]
Tensor to_file_layout(const Tensor& tensor, FileLayout layout) {
  return layout == FileLayout::kConvWeight ? permute(tensor, {0, 3, 1, 2}) : tensor;
}
Tensor from_file_layout(const Tensor& tensor, FileLayout layout) {
  return layout == FileLayout::kConvWeight && tensor.rank() == 4 ? permute(tensor, {0, 2, 3, 1}) : tensor;
}

// Each tensor under the first of its names.
std::vector<Module::NamedTensor> without_repetitions(const std::vector<Module::NamedTensor>& entries) {
  std::vector<Module::NamedTensor> out;
  std::map<uint64_t, std::vector<Tensor>> known;  // by memory, which views share
  for (const Module::NamedTensor& entry : entries) {
    std::vector<Tensor>& sharing = known[entry.tensor.memory_id()];
    if (std::any_of(sharing.begin(), sharing.end(), [&](const Tensor& other) { return other.is_same(entry.tensor); })) continue;
    sharing.push_back(entry.tensor);
    out.push_back(entry);
  }
  return out;
}

thread_local LayerObserver* t_observer = nullptr;

}  // namespace

void Module::collect(const std::string& prefix, bool buffers, std::vector<NamedTensor>& out) const {
  for (const Entry& entry : buffers ? buffers_ : parameters_) {
    out.push_back({dotted(prefix, entry.name), entry.tensor, entry.layout});
  }
  for (const auto& [name, child] : children_) child->collect(dotted(prefix, name), buffers, out);
}

std::vector<Module::NamedTensor> Module::named_parameters() const {
  std::vector<NamedTensor> out;
  collect("", false, out);
  return without_repetitions(out);
}

std::vector<Module::NamedTensor> Module::named_buffers() const {
  std::vector<NamedTensor> out;
  collect("", true, out);
  return without_repetitions(out);
}

std::vector<Module::NamedTensor> Module::named_tensors() const { return without_repetitions(all_names()); }

std::vector<Module::NamedTensor> Module::all_names() const {
  std::vector<NamedTensor> out;
  collect("", false, out);
  collect("", true, out);
  return out;
}

std::vector<Module::NamedModule> Module::named_modules() {
  std::vector<NamedModule> out{{"", this}};
  for (size_t next = 0; next < out.size();) {
    // Depth first: a module's children are inserted right behind it.
    const NamedModule current = out[next++];
    std::vector<NamedModule> children;
    for (auto& [name, child] : current.module->children_) children.push_back({dotted(current.name, name), child.get()});
    out.insert(out.begin() + std::ptrdiff_t(next), children.begin(), children.end());
  }
  return out;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> out;
  for (const NamedTensor& parameter : named_parameters()) out.push_back(parameter.tensor);
  return out;
}

std::map<uint64_t, std::string> Module::memory_names() const {
  std::map<uint64_t, std::string> names;
  for (const NamedTensor& entry : all_names()) names.emplace(entry.tensor.memory_id(), entry.name);
  return names;
}

int64_t Module::parameter_count() const {
  int64_t total = 0;
  for (const NamedTensor& parameter : named_parameters()) total += parameter.tensor.numel();
  return total;
}

void Module::to(Device device) {
  for (const NamedTensor& entry : named_tensors()) {
    if (is_floating(entry.tensor.dtype())) Tensor(entry.tensor).move_to(device);
  }
}

Device Module::device() const {
  const std::vector<Tensor> all = parameters();
  return all.empty() ? Device::cpu() : all[0].device();
}

void Module::train(bool on) {
  for (const NamedModule& entry : named_modules()) entry.module->training_ = on && !entry.module->stays_in_eval_;
}

void Module::stay_in_eval(bool on) {
  for (const NamedModule& entry : named_modules()) {
    entry.module->stays_in_eval_ = on;
    if (on) entry.module->training_ = false;
  }
}

void Module::freeze(bool on) {
  stay_in_eval(on);
  for (Tensor& parameter : parameters()) {
    parameter.set_requires_grad(!on);
    if (on) parameter.set_grad({});  // of a backward pass before: an optimizer would step by it
  }
}

ModeScope::ModeScope(Module& root) {
  for (const Module::NamedModule& entry : root.named_modules()) modes_.emplace_back(entry.module, entry.module->is_training());
}

ModeScope::~ModeScope() {
  for (const auto& [module, training] : modes_) module->train(training);
}

void Module::zero_grad() {
  for (Tensor& parameter : parameters()) parameter.set_grad({});
}

std::map<std::string, Tensor> Module::state_dict() const {
  NoGradGuard no_grad;
  std::map<std::string, Tensor> state;
  for (const NamedTensor& entry : all_names()) {
    const Tensor value = to_file_layout(entry.tensor.to(Device::cpu()), entry.layout);
    state[entry.name] = value.memory_id() == entry.tensor.memory_id() ? value.clone() : value;
  }
  return state;
}

Module::LoadReport Module::load_state_dict(const std::map<std::string, Tensor>& state, bool strict, const std::string& source) {
  NoGradGuard no_grad;
  LoadReport report;
  std::vector<std::pair<Tensor, Tensor>> copies;
  std::map<std::string, bool> known;
  for (const NamedTensor& entry : all_names()) {
    known[entry.name] = true;
    const auto found = state.find(entry.name);
    if (found == state.end()) {
      report.missing.push_back(entry.name);
      continue;
    }
    if (!found->second.defined()) {
      report.mismatched.push_back(entry.name + ": no value");
      continue;
    }
    const Tensor value = from_file_layout(found->second, entry.layout);
    if (!(value.shape() == entry.tensor.shape())) {
      report.mismatched.push_back(entry.name + ": file " + to_string(found->second.shape()) + ", model " +
                                  to_string(to_file_layout(entry.tensor, entry.layout).shape()));
      continue;
    }
    copies.emplace_back(entry.tensor, value.to(entry.tensor.dtype()));
    report.loaded.push_back(entry.name);
  }
  for (const auto& [name, tensor] : state) {
    if (!known.count(name)) report.unexpected.push_back(name);
  }
  if (strict && !(report.missing.empty() && report.unexpected.empty() && report.mismatched.empty())) {
    throw DataError("the weights do not fit the model: " + titled("wrong shape: ", report.mismatched, "; ") +
                        titled("missing: ", report.missing, "; ") + titled("unexpected: ", report.unexpected, "; ") + "loaded none",
                    source.empty() ? "load_state_dict" : source,
                    "use the configuration the weights were trained with (same classes, head and backbone)");
  }
  for (auto& [target, value] : copies) target.copy_(value);
  return report;
}

void Module::assign_paths(const std::string& root) {
  for (const NamedModule& entry : named_modules()) entry.module->path_ = entry.name.empty() ? root : dotted(root, entry.name);
}

// Keys of the state dict begin with a registered name, so two entries can share one only if a name begins with the other up to a dot.
void Module::check_name(const std::string& name, Kind kind) const {
  const auto refuse = [&](const std::string& why) {
    const char* kinds[] = {"parameter", "buffer", "child"};
    throw UsageError("a " + std::string(kinds[int(kind)]) + " cannot be registered as \"" + name + "\": " + why,
                     path_.empty() ? "Module" : path_, "give it a name of its own: names are keys of the state dict");
  };
  if (name.empty() || name.front() == '.' || name.back() == '.' || name.find("..") != std::string::npos) {
    refuse("a part of the name is empty");
  }
  const auto check_beside = [&](const std::string& other, Kind its_kind) {
    if (name == other && kind == its_kind) return;  // replaced
    if (name == other) refuse("the name is taken by another kind");
    if (name.starts_with(other + ".") || other.starts_with(name + ".")) refuse("it lies in, or around, \"" + other + "\"");
  };
  for (const Entry& entry : parameters_) check_beside(entry.name, Kind::kParameter);
  for (const Entry& entry : buffers_) check_beside(entry.name, Kind::kBuffer);
  for (const auto& [child, module] : children_) check_beside(child, Kind::kChild);
}

Tensor Module::register_parameter(const std::string& name, Tensor value, FileLayout layout) {
  check_name(name, Kind::kParameter);
  check::defined("register_parameter", {name.c_str(), value});
  check::that(layout != FileLayout::kConvWeight || value.rank() == 4, "register_parameter",
              name + " is " + describe(value) + ", no filter [O,kh,kw,I]", "leave the layout out, or give four axes");
  value.set_requires_grad();
  std::erase_if(parameters_, [&](const Entry& entry) { return entry.name == name; });
  parameters_.push_back({name, value, layout});
  return value;
}

Tensor Module::register_buffer(const std::string& name, Tensor value) {
  check_name(name, Kind::kBuffer);
  check::defined("register_buffer", {name.c_str(), value});
  std::erase_if(buffers_, [&](const Entry& entry) { return entry.name == name; });
  buffers_.push_back({name, value, FileLayout::kSame});
  return value;
}

void Module::add_child(const std::string& name, std::unique_ptr<Module> child) {
  check_name(name, Kind::kChild);
  if (!child) {
    throw UsageError("a child named \"" + name + "\" was not given", path_.empty() ? "Module" : path_, "register a module that is there");
  }
  child->assign_paths(dotted(path_, name));
  for (auto& [existing, old] : children_) {
    if (existing == name) {
      old = std::move(child);
      return;
    }
  }
  children_.emplace_back(name, std::move(child));
}

void Module::remove_child(const std::string& name) {
  std::erase_if(children_, [&](const auto& child) { return child.first == name; });
}

bool Module::has_child(const std::string& name) const {
  return std::any_of(children_.begin(), children_.end(), [&](const auto& child) { return child.first == name; });
}

Tensor Layer::operator()(const Tensor& x) {
  if (!x.defined()) {
    const std::string name = description().empty() ? "Layer" : description();
    throw UsageError("a layer is applied to a tensor that has no value", path().empty() ? name : path() + " (" + name + ")",
                     "pass a defined tensor");
  }
  const Tensor y = forward(x);
  for (LayerObserver* observer = t_observer; observer != nullptr; observer = observer->outer_) observer->callback_(*this, x, y);
  return y;
}

int64_t Layer::macs(const Tensor&, const Tensor&) const { return 0; }

LayerObserver::LayerObserver(Callback callback) : callback_(std::move(callback)), outer_(t_observer) { t_observer = this; }
LayerObserver::~LayerObserver() {
  LayerObserver** link = &t_observer;
  while (*link != nullptr && *link != this) link = &(*link)->outer_;
  if (*link != nullptr) *link = outer_;
}
bool LayerObserver::any() { return t_observer != nullptr; }

}  // namespace eq
