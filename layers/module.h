#pragma once
// Module: a tree of named parameters, buffers and children. They exist only by registration; the name is the key in the
// state dict, joined by dots, and equals PyTorch's.
//
//   class Block : public Layer {
//    public:
//     explicit Block(int64_t channels) : conv_(register_module<Conv2d>("conv", ...)) {}
//     Tensor forward(const Tensor& x) override { return relu(conv_(x)); }
//    private:
//     Conv2d& conv_;  // owned by the tree
//   };
//
// Modules cannot be copied. Registering a name again replaces what it named; references to the old child are then invalid. A name that
// would make two tensors one in the state dict is refused: empty, of another kind, or "a.b" beside "a".

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace eq {

// How a tensor's memory order differs from PyTorch's in files.
enum class FileLayout { kSame, kConvWeight /* ours [O,kh,kw,I], file [O,I,kh,kw] */ };

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  struct NamedTensor {
    std::string name;  // full dotted path
    Tensor tensor;     // a handle to the registered tensor: writing through it changes the module
    FileLayout layout = FileLayout::kSame;
  };
  struct NamedModule {
    std::string name;
    Module* module;
  };
  // Depth first, in registration order; a tensor that has several names (tied weights) once, under the first of them.
  std::vector<NamedTensor> named_parameters() const;
  std::vector<NamedTensor> named_buffers() const;
  std::vector<NamedTensor> named_tensors() const;  // parameters, then buffers
  std::vector<NamedModule> named_modules();  // this one first, under the name ""
  std::vector<Tensor> parameters() const;
  std::map<uint64_t, std::string> memory_names() const;  // of parameters and buffers, by Tensor::memory_id(): for who meets one on its way
  int64_t parameter_count() const;

  // Takes parameters and floating buffers to a device, in place; counters stay on the host. Do it before optimizers are made.
  void to(Device device);
  Device device() const;  // of the first parameter; the CPU where there is none

  bool is_training() const { return training_; }
  void train(bool on = true);  // of the whole tree, but of what stays in evaluation mode
  void eval() { train(false); }
  // Evaluation mode now and for good, whatever train() says: batch norms take their running statistics, and keep them. Of the whole tree.
  void stay_in_eval(bool on = true);
  // That, and its parameters do not learn: no gradients are computed for them, nor for what lies before them alone;
  // those that they have are cleared.
  void freeze(bool on = true);
  void zero_grad();

  // Copies of parameters and buffers under PyTorch's names, all of them, and layouts, on the host: what training does later does not change
  // them.
  std::map<std::string, Tensor> state_dict() const;
  struct LoadReport {
    std::vector<std::string> loaded, missing, unexpected, mismatched;  // mismatched: "name: file [19], model [8]"
  };
  // Copies values in. Throws DataError listing missing, unexpected and mismatched names unless `strict` is off; then they
  // are skipped and reported. Nothing is changed when it throws.
  LoadReport load_state_dict(const std::map<std::string, Tensor>& state, bool strict = true, const std::string& source = "");

  const std::string& path() const { return path_; }  // dotted, from the root, as in the state dict; "" of the root
  void assign_paths(const std::string& root);         // another name for the root, before all others

 protected:
  template <class M, class... Args>
  M& register_module(const std::string& name, Args&&... args) {
    auto child = std::make_unique<M>(std::forward<Args>(args)...);
    M& reference = *child;
    add_child(name, std::move(child));
    return reference;
  }
  // These throw UsageError for a name that is refused (above) or a tensor without a value, ShapeError for a filter without four axes.
  Tensor register_parameter(const std::string& name, Tensor value, FileLayout layout = FileLayout::kSame);
  Tensor register_buffer(const std::string& name, Tensor value);
  void add_child(const std::string& name, std::unique_ptr<Module> child);
  void remove_child(const std::string& name);  // nothing happens if there is none
  bool has_child(const std::string& name) const;

 private:
  enum class Kind { kParameter, kBuffer, kChild };
  void check_name(const std::string& name, Kind kind) const;

  struct Entry {
    std::string name;
    Tensor tensor;
    FileLayout layout;
  };
  void collect(const std::string& prefix, bool buffers, std::vector<NamedTensor>& out) const;
  std::vector<NamedTensor> all_names() const;  // of parameters, then of buffers

  std::vector<Entry> parameters_, buffers_;
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> children_;
  std::string path_;
  bool training_ = true, stays_in_eval_ = false;
};

// Remembers whether each module of a tree is in training mode, and gives all of them their modes back when it ends: a part may be in
// evaluation mode (frozen) while the whole trains. The tree must be the same then.
class ModeScope {
 public:
  explicit ModeScope(Module& root);
  ~ModeScope();
  ModeScope(const ModeScope&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> modes_;  // parents first
};

// The modules of type M in `root`, in registration order, which is the order of use where a class keeps to it.
template <class M>
std::vector<M*> modules_of(Module& root) {
  std::vector<M*> found;
  for (const Module::NamedModule& entry : root.named_modules()) {
    if (M* module = dynamic_cast<M*>(entry.module)) found.push_back(module);
  }
  return found;
}

// A module from one tensor to one tensor.
class Layer : public Module {
 public:
  virtual Tensor forward(const Tensor& x) = 0;
  Tensor operator()(const Tensor& x);  // forward(), then the observers
  // Multiply-adds of one application; 0 for what is not a product with weights.
  virtual int64_t macs(const Tensor& input, const Tensor& output) const;
  virtual std::string description() const { return ""; }  // one line for the summary; empty: a container, left out of it
};

// Sees every layer's application on this thread while alive, in order: for the summary, the finite check and the probes. A hook on the
// output (register_hook) sees its gradient, too. Several may be alive, and end in any order, on the thread that made them; the youngest is
// called first. A callback must not end one.
class LayerObserver {
 public:
  using Callback = std::function<void(Layer& layer, const Tensor& input, const Tensor& output)>;
  explicit LayerObserver(Callback callback);
  ~LayerObserver();
  LayerObserver(const LayerObserver&) = delete;
  static bool any();  // on this thread

 private:
  friend class Layer;
  Callback callback_;
  LayerObserver* outer_;
};

}  // namespace eq
