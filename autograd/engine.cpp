// The backward walk. Nodes become ready when every use of their outputs has reported; among the ready ones the
// youngest goes first, so the order, and with it every sum, is the same in each run.

#include <cstring>
#include <queue>
#include <unordered_map>

#include "autograd/node.h"
#include "core/words.h"

namespace eq {
namespace {

struct Pending {
  int uses = 0;  // edges into this node that have not reported yet
  TensorList grads;
};

struct ByAge {
  bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const {
    return a->sequence() < b->sequence();
  }
};

// The gradients that a node gets and others hold, too: a change is told by the version, where nodes are watched by the values.
class SharedGradients {
 public:
  SharedGradients(const TensorList& grads, bool watch) {
    for (const Tensor& grad : grads) {
      if (!grad.defined() || (grad.is_unique() && !watch)) continue;
      shared_.push_back({grad, grad.version(), watch ? grad.clone() : Tensor()});
    }
  }
  void check(const Node& node) const {
    for (const auto& [grad, version, values] : shared_) {
      if (grad.version() == version && (!values.defined() || same_bits(grad, values))) continue;
      throw AutogradError("a node changed a gradient that is not its own", std::string(node.name()) + ", gradient " + describe(grad),
                          "what comes to backward() goes to other nodes, too: return a new tensor");
    }
  }

 private:
  struct Shared {
    Tensor grad;
    uint32_t version;
    Tensor values;
  };
  static bool same_bits(const Tensor& a, const Tensor& b) {
    const Tensor x = a.to(Device::cpu()), y = b.to(Device::cpu());
    return x.bytes() == 0 || std::memcmp(x.raw_data(), y.raw_data(), x.bytes()) == 0;
  }
  std::vector<Shared> shared_;
};

class Walk {
 public:
  Walk(bool retain_graph, bool watch_nodes) : retain_graph_(retain_graph), watch_nodes_(watch_nodes) {}

  void start(const std::shared_ptr<Node>& root) {
    std::vector<Node*> stack;
    auto discover = [&](const std::shared_ptr<Node>& node) {
      auto [it, fresh] = pending_.try_emplace(node.get());
      if (fresh) {
        it->second.grads.resize(node->outputs().size());
        stack.push_back(node.get());
      }
      return it;
    };
    discover(root);
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      for (const Node::Edge& edge : node->edges()) {
        if (edge.node) ++discover(edge.node)->second.uses;
      }
    }
    ready_.push(root);
  }

  void add(const Node::Edge& edge, Tensor grad, const char* from) {
    if (!grad.defined()) return;
    const Node::OutputInfo& info = edge.node->outputs()[edge.output];
    if (!(grad.shape() == info.shape) || grad.dtype() != info.dtype || grad.device() != info.device) {
      throw AutogradError("the gradient has the wrong shape, type or device",
                          std::string(from) + " gave " + describe(grad) + " for a value of " + name_of(info.dtype) +
                              " " + to_string(info.shape) + " on " + to_string(info.device),
                          "the gradient of a value has the value's shape and type, and is where the value is");
    }
    Tensor& sum = pending_.at(edge.node.get()).grads[edge.output];
    if (!sum.defined()) {
      sum = std::move(grad);
    } else {
      if (!sum.is_unique()) sum = sum.clone();
      sum.add_(grad);
    }
  }

  void run() {
    while (!ready_.empty()) {
      const std::shared_ptr<Node> node = ready_.top();
      ready_.pop();
      auto found = pending_.find(node.get());
      TensorList grads = std::move(found->second.grads);
      pending_.erase(found);
      TensorList input_grads = differentiate(*node, grads);
      grads.clear();
      const auto& edges = node->edges();
      for (size_t i = 0; i < edges.size(); ++i) {
        if (!edges[i].node) continue;
        if (!input_grads.empty()) add(edges[i], std::move(input_grads[i]), node->name());
        if (--pending_.at(edges[i].node.get()).uses == 0) ready_.push(edges[i].node);
      }
    }
  }

 private:
  TensorList differentiate(Node& node, TensorList& grads) {
    bool any = false;
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) continue;
      any = true;
      if (!node.hooks(int(i)).empty()) grads[i] = node.hooks(int(i)).run(std::move(grads[i]));
    }
    if (!any) return {};  // nothing reached this node: nothing flows on
    if (node.released()) {
      throw AutogradError("the graph was already freed by an earlier backward()", node.name(),
                          "call backward({}, true) the first time: retain_graph keeps it");
    }
    set_current_operator(node.name());
    const SharedGradients shared(grads, watch_nodes_);
    TensorList input_grads = node.backward(grads);
    shared.check(node);
    if (input_grads.size() != node.edges().size()) {
      throw AutogradError(
          "a node gave " + counted(int64_t(input_grads.size()), "gradient") + " for " + counted(int64_t(node.edges().size()), "input"),
          node.name(), "its backward() returns one for each recorded input, undefined where needs(i) is false");
    }
    if (!retain_graph_ && !node.edges().empty()) node.release_saved();
    return input_grads;
  }

  bool retain_graph_, watch_nodes_;
  std::unordered_map<Node*, Pending> pending_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, ByAge> ready_;
};

thread_local bool t_walking = false;

}  // namespace

void run_backward(const Tensor& root, Tensor grad_output, bool retain_graph, bool watch_nodes) {
  if (t_walking) {
    throw AutogradError("backward() was called from within backward()", "backward",
                        "derivatives of derivatives are not supported: compute them outside of hooks and nodes");
  }
  const Node::Edge edge = gradient_edge(root);
  if (!edge.node) {
    throw AutogradError(
        "there is nothing to differentiate", "backward of " + describe(root),
        "mark a leaf with set_requires_grad() and compute by operators outside of NoGradGuard: clone(), to(), detach(), alias() and "
        "data() record nothing; nor has a gradient a graph of its own, derivatives of derivatives are not supported");
  }
  struct Walking {
    Walking() { t_walking = true; }
    ~Walking() { t_walking = false; }
  } walking;
  NoGradGuard no_grad;
  if (!grad_output.defined()) {
    if (root.numel() != 1) {
      throw AutogradError("backward() of a tensor with several elements needs grad_output", "backward of " + describe(root),
                          "reduce it to one number first (sum, mean) or pass a gradient of its shape");
    }
    grad_output = Tensor::full(root.shape(), 1, root.dtype(), root.device());
  }
  Walk walk(retain_graph, watch_nodes);
  walk.start(edge.node);
  walk.add(edge, std::move(grad_output), "the caller");
  walk.run();
}

}  // namespace eq
