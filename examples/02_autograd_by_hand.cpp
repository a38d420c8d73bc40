// Lesson 2: automatic differentiation by hand.
//
// Training needs the derivative of one number, the loss, by every weight. The chain rule gives all of them in one
// walk backwards.
//
// While the formula is computed, write down a tape: a line for each operation, with its value, which lines it was
// made from, and how fast it changes with each of them (the local derivative; of a product a * b these are b and a).
// Then, with grad = d loss / d line,
//
//   grad of the loss = 1
//   for every line, last to first:   for every input:   input.grad += line.grad * local derivative
//
// That is all of backpropagation. Two points are easy to get wrong:
//  - The order. A line may be passed on only when its own grad is complete: after all lines that use it. Inputs are
//    always written before what is made from them, so the reverse of the order of writing will do. (It is one
//    topological order of the graph of many.)
//  - The +=. A value that is used twice gets a gradient along both ways, and they add. Here `miss` is both factors of
//    miss * miss.
//
// The example is a single neuron with two inputs, y = tanh(w1 x1 + w2 x2 + b), that should answer 0.5; the loss is (y
// - 0.5)^2. The same formula in the library's tensors has to give the same gradients. The graph is written as
// 02_autograd.dot; with graphviz installed, `dot -Tpng 02_autograd.dot -o graph.png` draws it.
//
// Exercise: give the tape an operation exp (its local derivative is its own value), replace the loss by exp(miss *
// miss) - 1 on both sides, and see that the check still passes.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/file.h"

using namespace eq;

struct Line {
  std::string name;
  double value = 0, grad = 0;
  struct Input {
    size_t line;
    double derivative;
  };
  std::vector<Input> inputs;
};

class Tape {
 public:
  size_t leaf(const std::string& name, double value) { return write({name, value, 0, {}}); }
  size_t add(size_t a, size_t b) { return write({"+", at(a) + at(b), 0, {{a, 1}, {b, 1}}}); }
  size_t sub(size_t a, size_t b) { return write({"-", at(a) - at(b), 0, {{a, 1}, {b, -1}}}); }
  size_t mul(size_t a, size_t b) { return write({"*", at(a) * at(b), 0, {{a, at(b)}, {b, at(a)}}}); }
  size_t tanh(size_t a) {
    const double y = std::tanh(at(a));
    return write({"tanh", y, 0, {{a, 1 - y * y}}});
  }

  void backward(size_t loss) {
    for (Line& line : lines_) line.grad = 0;
    lines_[loss].grad = 1;
    for (size_t i = loss + 1; i-- > 0;) {
      for (const Line::Input& input : lines_[i].inputs) lines_[input.line].grad += lines_[i].grad * input.derivative;
    }
  }

  double at(size_t line) const { return lines_[line].value; }
  double grad(size_t line) const { return lines_[line].grad; }

  // The text of a picture: a box for each line, an arrow from each input.
  std::string dot() const {
    std::string text = "digraph tape {\n  rankdir=LR; node [shape=box, fontname=\"sans\"];\n";
    char buffer[160];
    for (size_t i = 0; i < lines_.size(); ++i) {
      const Line& line = lines_[i];
      std::snprintf(buffer, sizeof buffer, "  n%zu [label=\"%s\\nvalue %.4f\\ngrad %.4f\"%s];\n", i, line.name.c_str(),
                    line.value, line.grad, line.inputs.empty() ? ", style=rounded" : "");
      text += buffer;
      for (const Line::Input& input : line.inputs) {
        std::snprintf(buffer, sizeof buffer, "  n%zu -> n%zu [label=\"%.3f\"];\n", input.line, i, input.derivative);
        text += buffer;
      }
    }
    return text + "}\n";
  }

 private:
  size_t write(const Line& line) {
    lines_.push_back(line);
    return lines_.size() - 1;
  }
  std::vector<Line> lines_;
};

constexpr double kX1 = 0.8, kX2 = -1.5, kTarget = 0.5;

// The loss of weights w1, w2, b, and its three derivatives, by our tape.
double by_hand(const std::vector<double>& weights, std::vector<double>& grads, std::string* dot) {
  Tape tape;
  const size_t w1 = tape.leaf("w1", weights[0]), w2 = tape.leaf("w2", weights[1]), b = tape.leaf("b", weights[2]);
  const size_t x1 = tape.leaf("x1", kX1), x2 = tape.leaf("x2", kX2), target = tape.leaf("target", kTarget);
  const size_t y = tape.tanh(tape.add(tape.add(tape.mul(w1, x1), tape.mul(w2, x2)), b));
  const size_t miss = tape.sub(y, target);
  const size_t loss = tape.mul(miss, miss);
  tape.backward(loss);
  grads = {tape.grad(w1), tape.grad(w2), tape.grad(b)};
  if (dot != nullptr) *dot = tape.dot();
  return tape.at(loss);
}

// The same with the library: tensors of rank 0 that require a gradient.
double by_library(const std::vector<double>& weights, std::vector<double>& grads) {
  std::vector<Tensor> w;
  for (double value : weights) w.push_back(Tensor::scalar(value, DType::kFloat64).set_requires_grad());
  const Tensor miss = tanh(w[0] * kX1 + w[1] * kX2 + w[2]) - kTarget;
  const Tensor loss = miss * miss;
  loss.backward();
  grads = {w[0].grad().item(), w[1].grad().item(), w[2].grad().item()};
  return loss.item();
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  std::vector<double> weights = {0.3, -0.7, 0.1}, ours, theirs;
  std::string dot;
  double loss = by_hand(weights, ours, &dot), worst = std::abs(loss - by_library(weights, theirs));
  write_text_atomically(folder + "/02_autograd.dot", dot);
  const char* names[] = {"w1", "w2", "b"};
  std::printf("loss %.6f\n       by hand     library\n", loss);
  for (size_t i = 0; i < 3; ++i) {
    std::printf("  %-3s %10.6f  %10.6f\n", names[i], ours[i], theirs[i]);
    worst = std::max(worst, std::abs(ours[i] - theirs[i]));
  }
  // What derivatives are for: a small step against them makes the loss smaller.
  double before = loss;
  bool falls = true;
  for (int step = 1; step <= 5; ++step) {
    for (size_t i = 0; i < 3; ++i) weights[i] -= 0.2 * ours[i];
    loss = by_hand(weights, ours, nullptr);
    std::printf("step %d  loss %.6f\n", step, loss);
    falls &= loss < before;
    before = loss;
  }
  const bool ok = worst < 1e-12 && falls && loss < 0.01;
  std::printf("self-check: %s (largest difference %.1e)\n", ok ? "passed" : "FAILED", worst);
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
