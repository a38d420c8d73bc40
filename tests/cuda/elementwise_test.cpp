#include "core/random.h"
#include "cuda/parity.h"
#include "ops/elementwise_cases.h"

using namespace eq;
using namespace eq::test;
using cases::uniform_tensor;

TEST_CASE("cuda: elementwise operators of one argument", "[cuda][elementwise]") {
  EQ_NEED_CUDA();
  for (const cases::UnaryCase& c : cases::kUnaryCases) {
    check_parity(c.name, [&](const std::vector<Tensor>& in) { return c.op(in[0]); }, {{uniform_tensor({3, 7, 19}, c.low, c.high, 5)}},
                 {.bfloat16 = 3e-2});
  }
}

TEST_CASE("cuda: elementwise operators of two arguments broadcast", "[cuda][elementwise]") {
  EQ_NEED_CUDA();
  const std::pair<Shape, Shape> shapes[] = {{{4, 5, 6}, {4, 5, 6}}, {{4, 5, 6}, {6}}, {{4, 1, 6}, {5, 1}}, {{1}, {3, 2}}, {{3, 4}, {}}};
  for (const cases::BinaryCase& c : cases::kBinaryCases) {
    for (const auto& [a, b] : shapes) {
      check_parity(std::string(c.name) + " " + to_string(a) + " " + to_string(b),
                   [&](const std::vector<Tensor>& in) { return c.op(in[0], in[1]); },
                   {{uniform_tensor(a, 0.5, 3, 1)}, {uniform_tensor(b, 0.5, 3, 2)}}, {.bfloat16 = 5e-2});
    }
  }
}
