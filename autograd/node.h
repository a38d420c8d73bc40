#pragma once
// The tape. A Node is one recorded operator application; its edges lead to the nodes that made its inputs. The engine
// walks nodes and edges and knows no operator.
//
// How an operator records itself (see autograd/ops/ for many):
//
//   struct SquareBackward final : Node {
//     explicit SquareBackward(const Tensor& x) : Node("square"), x_(save(x)) {}
//     TensorList backward(const TensorList& grads) override { return {mul(grads[0], mul(x_.get(), 2))}; }
//     SavedTensor& x_;                                             // released by the engine after its turn
//   };
//   Tensor square(const Tensor& x) {
//     Tensor y = ...;                                              // the value
//     trace("square", y, {x});                                      // nothing happens unless someone traces (autograd/trace.h)
//     record<SquareBackward>(y, {x}, x);                           // nothing happens unless x needs a gradient
//     return y;
//   }

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "autograd/trace.h"
#include "core/tensor.h"

namespace eq {

using TensorList = std::vector<Tensor>;

// Whether operators record. Per thread; on at the start, also of a thread that is started under a guard.
bool grad_enabled();
class NoGradGuard {
 public:
  NoGradGuard();
  ~NoGradGuard();
  NoGradGuard(const NoGradGuard&) = delete;

 private:
  bool before_;
};

// A value kept for backward: shares memory with the tensor, but not its history, and remembers the version of that
// memory. get() throws AutogradError if the value was changed in place since, or was already released.
class SavedTensor {
 public:
  SavedTensor(const Tensor& tensor, const char* op);
  const Tensor& get() const;  // undefined stays undefined
  void release();

 private:
  Tensor value_;
  uint32_t version_ = 0;
  const char* op_;
  bool released_ = false;
};

// Functions called with a complete gradient; each may return a replacement of the same shape and type (else AutogradError),
// or an undefined tensor to keep it. What they get is read only: changing it in place is an AutogradError.
class HookList {
 public:
  using Hook = std::function<Tensor(const Tensor& grad)>;
  int add(Hook hook);
  void remove(int id);
  Tensor run(Tensor grad) const;
  bool empty() const { return hooks_.empty(); }

 private:
  std::vector<std::pair<int, Hook>> hooks_;
  int last_id_ = 0;
};

class Node {
 public:
  explicit Node(const char* name);  // for messages: a string that lives forever
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Gradients of the recorded inputs, one for each and in their order, from those of the outputs. An output nobody used has an undefined
  // gradient (single-output nodes always get a defined one); an input without needs(i) may be left undefined, elsewhere that stands for 0.
  // The gradients that come are read only: other nodes may get the same memory. They may be returned, and changed in place only where
  // is_unique() says that nobody else has them; else the walk throws AutogradError, where the change counted as one (Tensor::version).
  virtual TensorList backward(const TensorList& grad_outputs) = 0;

  const char* name() const { return name_; }
  bool needs(int input) const { return edges_[input].node != nullptr; }
  uint64_t sequence() const { return sequence_; }
  void release_saved();
  bool released() const { return released_; }

  struct Edge {
    std::shared_ptr<Node> node;  // null: that input needs no gradient
    int output = 0;              // which output of `node` the input was
  };
  struct OutputInfo {
    Shape shape;
    DType dtype = DType::kFloat32;
    Device device;
    HookList hooks;
  };

  const std::vector<Edge>& edges() const { return edges_; }
  const std::vector<OutputInfo>& outputs() const { return outputs_; }
  HookList& hooks(int output) { return outputs_[output].hooks; }

  // For record() and the engine's bookkeeping.
  void connect(const std::vector<Edge>& edges) { edges_ = edges; }
  int add_output(const Tensor& output);

 protected:
  SavedTensor& save(const Tensor& tensor);  // the reference stays valid for the node's life

 private:
  const char* name_;
  uint64_t sequence_;  // creation order: the operators before have smaller numbers
  bool released_ = false;
  std::vector<Edge> edges_;
  std::vector<OutputInfo> outputs_;
  std::deque<SavedTensor> saved_;
};

namespace detail {
bool any_needs_grad(const std::vector<Tensor>& inputs);
void attach(const std::shared_ptr<Node>& node, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs);
}  // namespace detail

// Makes `output` the result of an N over `inputs` (constructed from `args`) if recording is on and an input needs a
// gradient. Undefined inputs are allowed. Throws AutogradError where an output has a history (an input, say), DTypeError for integers.
template <class N, class... Args>
void record(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs, Args&&... args) {
  if (tracing()) detail::t_trace->require(outputs, inputs);
  if (!grad_enabled() || !detail::any_needs_grad(inputs)) return;
  detail::attach(std::make_shared<N>(std::forward<Args>(args)...), outputs, inputs);
}
template <class N, class... Args>
void record(const Tensor& output, const std::vector<Tensor>& inputs, Args&&... args) {
  record<N>(std::vector<Tensor>{output}, inputs, std::forward<Args>(args)...);
}

// Where gradients of `tensor` go: its producing node, or the accumulator of a leaf; null node if none is needed.
Node::Edge gradient_edge(const Tensor& tensor);

// Calls `hook` with the complete gradient of `tensor` each time backward reaches it, before it flows on or is accumulated.
// Returns an id for remove_hook. Throws AutogradError if the tensor does not require a gradient. This is what retain_grad() is elsewhere:
//   register_hook(h, [&](const Tensor& grad) { grad_of_h = grad; return Tensor(); });
// The tensor's node, or the leaf, owns the hook: one that captures the tensor itself keeps it, and the whole graph behind it, alive until
// it is removed. Capture tensor.detach(), which has the values alone.
int register_hook(const Tensor& tensor, HookList::Hook hook);
void remove_hook(const Tensor& tensor, int id);

// The walk (autograd/engine.cpp), which is Tensor::backward. With `watch_nodes` every node gets gradients that are not its own, and
// AutogradError names one that changes a value of them: for gradcheck.
void run_backward(const Tensor& root, Tensor grad_output, bool retain_graph, bool watch_nodes = false);

}  // namespace eq
