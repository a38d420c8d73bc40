#include "autograd/node.h"

#include <algorithm>
#include <atomic>

namespace eq {
namespace {

thread_local bool t_grad_enabled = true;
std::atomic<uint64_t> g_sequence{0};

// Freeing a long chain must not recurse: a dying node hands its children to this queue, and the outermost
// destructor drains it.
thread_local std::vector<std::shared_ptr<Node>>* t_dying = nullptr;

}  // namespace

bool grad_enabled() { return t_grad_enabled; }
NoGradGuard::NoGradGuard() : before_(t_grad_enabled) { t_grad_enabled = false; }
NoGradGuard::~NoGradGuard() { t_grad_enabled = before_; }

SavedTensor::SavedTensor(const Tensor& tensor, const char* op) : op_(op) {
  if (!tensor.defined()) return;
  value_ = tensor.alias(tensor.shape());
  version_ = tensor.version();
}

const Tensor& SavedTensor::get() const {
  if (released_) {
    throw AutogradError(std::string("the values saved by ") + op_ + " were already freed", op_,
                        "call backward({}, true) the first time: retain_graph keeps it");
  }
  if (value_.defined() && value_.version() != version_) {
    throw AutogradError(std::string("a value that ") + op_ + " saved for its gradient was changed in place afterwards",
                        std::string(op_) + ", argument " + describe(value_) + ", saved at version " +
                            std::to_string(version_) + ", now " + std::to_string(value_.version()),
                        "compute the new value by operators, which record, or change it after backward(); clone() and what a NoGradGuard covers pass no "
                        "gradient on");
  }
  return value_;
}

void SavedTensor::release() {
  value_ = Tensor();
  released_ = true;
}

Node::Node(const char* name) : name_(name), sequence_(++g_sequence) {}

Node::~Node() {
  if (t_dying != nullptr) {
    for (Edge& edge : edges_) {
      if (edge.node) t_dying->push_back(std::move(edge.node));
    }
    return;
  }
  std::vector<std::shared_ptr<Node>> dying;
  t_dying = &dying;
  for (Edge& edge : edges_) {
    if (edge.node) dying.push_back(std::move(edge.node));
  }
  while (!dying.empty()) {
    std::shared_ptr<Node> last = std::move(dying.back());
    dying.pop_back();
    last.reset();
  }
  t_dying = nullptr;
}

void Node::release_saved() {
  for (SavedTensor& saved : saved_) saved.release();
  released_ = true;
}

SavedTensor& Node::save(const Tensor& tensor) { return saved_.emplace_back(tensor, name_); }

int Node::add_output(const Tensor& output) {
  outputs_.push_back({output.shape(), output.dtype(), output.device(), {}});
  return int(outputs_.size()) - 1;
}

int HookList::add(Hook hook) {
  if (!hook) {
    throw AutogradError("a hook must be a function", "register_hook",
                        "pass one that takes a gradient and returns a tensor, undefined to keep the gradient");
  }
  hooks_.emplace_back(++last_id_, std::move(hook));
  return last_id_;
}

void HookList::remove(int id) {
  std::erase_if(hooks_, [id](const auto& entry) { return entry.first == id; });
}

Tensor HookList::run(Tensor grad) const {
  const auto hooks = hooks_;  // a hook may remove itself
  for (const auto& [id, hook] : hooks) {
    const uint32_t version = grad.version();
    Tensor replaced = hook(grad);
    if (grad.version() != version) {
      throw AutogradError("a hook changed a gradient in place", "hook " + std::to_string(id) + ", gradient " + describe(grad),
                          "others may have the same memory: return a new tensor, which takes its place");
    }
    if (!replaced.defined()) continue;
    if (!(replaced.shape() == grad.shape()) || replaced.dtype() != grad.dtype() || replaced.device() != grad.device()) {
      throw AutogradError("a hook replaced a gradient by something of another kind",
                          "hook " + std::to_string(id) + " gave " + describe(replaced) + " for " + describe(grad),
                          "return a gradient of the same shape and type, or an undefined tensor to keep it");
    }
    grad = replaced;
  }
  return grad;
}

}  // namespace eq
