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

// Arrays that no pack divides, or that begin off their alignment; broadcasts along every kind of run.
TEST_CASE("cuda: elementwise operators in packs and out of them", "[cuda][elementwise]") {
  EQ_NEED_CUDA();
  const auto rows = [](const Tensor& x, int64_t begin) { return slice(x, 0, begin, x.size(0)); };
  for (const int64_t count : {1, 7, 8, 255, 2049, 4096}) {
    for (const int64_t begin : {0, 1, 8}) {
      INFO(count << " elements from element " << begin);
      check_parity("silu", [&](const std::vector<Tensor>& in) { return silu(rows(in[0], begin)); }, {{random_tensor({count + begin}, 1)}});
      check_parity("mul", [&](const std::vector<Tensor>& in) { return rows(in[0], begin) * rows(in[1], 8 - begin); },
                   {{random_tensor({count + begin}, 1)}, {random_tensor({count + 8 - begin}, 2)}});
    }
  }
  const std::pair<Shape, Shape> shapes[] = {{{2, 3, 5, 16}, {16}},         {{2, 3, 5, 12}, {12}},       {{2, 3, 5, 19}, {19}},
                                            {{3, 4, 4, 8}, {3, 1, 1, 8}},  {{3, 4, 1, 8}, {1, 1, 4, 8}}, {{2, 8, 16}, {2, 8, 1}},
                                            {{2, 8, 3}, {2, 8, 1}},        {{2, 5, 3}, {2, 1, 3}},       {{8, 16}, {1}},
                                            {{8, 1, 16}, {8, 3, 1}}, {{2, 1, 2, 1, 8}, {1, 3, 1, 3, 8}}, {{5, 0, 8}, {8}}};
  for (const auto& [a, b] : shapes) {
    for (const bool swapped : {false, true}) {
      check_parity(to_string(a) + " and " + to_string(b) + (swapped ? ", swapped" : ""),
                   [&](const std::vector<Tensor>& in) { return swapped ? in[1] / in[0] : in[0] / in[1]; },
                   {{uniform_tensor(a, 0.5, 3, 1)}, {uniform_tensor(b, 0.5, 3, 2)}}, {.bfloat16 = 5e-2});
    }
  }
}

TEST_CASE("cuda: elementwise operators keep NaN, infinities and signed zeros", "[cuda][elementwise]") {
  EQ_NEED_CUDA();
  const double special[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1.5, -2.5, 7.0};
  Tensor a = Tensor::empty({64}, DType::kFloat32), b = Tensor::empty({64}, DType::kFloat32);
  for (int64_t i = 0; i < 64; ++i) a.data<float>()[i] = float(special[i % 8]), b.data<float>()[i] = float(special[i / 8]);
  const Tensor there_a = a.to(Device::cuda()), there_b = b.to(Device::cuda());
  const auto same = [](const Tensor& there, const Tensor& here) {
    const std::vector<float> x = there.to_vector<float>(), y = here.to_vector<float>();
    for (size_t i = 0; i < x.size(); ++i) {
      INFO("element " << i << ": " << x[i] << " and " << y[i]);
      CHECK((std::isnan(x[i]) ? std::isnan(y[i]) : x[i] == y[i] && std::signbit(x[i]) == std::signbit(y[i])));
    }
  };
  same(relu(there_a), relu(a));
  same(maximum(there_a, there_b), maximum(a, b));
  same(minimum(there_a, there_b), minimum(a, b));
  same(there_a + there_b, a + b);
  same(there_a / there_b, a / b);
  const std::vector<float> logs = log(there_a).to_vector<float>(), logs_here = log(a).to_vector<float>();
  for (size_t i = 0; i < logs.size(); ++i) {
    INFO("log of " << special[i % 8] << ": " << logs[i] << " and " << logs_here[i]);
    CHECK((std::isfinite(logs_here[i]) ? std::abs(logs[i] - logs_here[i]) <= 1e-6f
                                       : std::isnan(logs_here[i]) ? std::isnan(logs[i]) : logs[i] == logs_here[i]));
  }
}
