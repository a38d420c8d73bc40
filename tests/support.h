#pragma once
// What every test needs: random tensors, comparisons, temporary folders, the shared data when it is there.

#include <filesystem>
#include <string>
#include <vector>

#include "catch.h"
#include "core/tensor.h"

namespace eq::test {

// Standard normal values, a pure function of (shape, seed).
Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype = DType::kFloat64);
Tensor random_leaf(const Shape& shape, uint64_t seed, DType dtype = DType::kFloat64);  // requires a gradient
// Distinct values at least 1/numel apart, shuffled: for operators with kinks (max, pooling, sorting).
Tensor distinct_tensor(const Shape& shape, uint64_t seed, DType dtype = DType::kFloat64);
// Of [..., R, C]: each row `times` times in succession, [..., R * times, C].
Tensor repeated_rows(const Tensor& x, int64_t times);

// Largest |a - b| / max(1, largest |b|). Shapes must agree (else infinity); NaN gives infinity.
double scaled_difference(const Tensor& a, const Tensor& b);
// CHECKs that scaled_difference <= tolerance, with both tensors described on failure.
void check_close(const Tensor& actual, const Tensor& expected, double tolerance);
bool bit_equal(const Tensor& a, const Tensor& b);

// CHECKs gradcheck(fn, inputs) with its message on failure.
void check_gradients(const std::function<Tensor(const std::vector<Tensor>&)>& fn, const std::vector<Tensor>& inputs,
                     double tolerance = 1e-6);

// A fresh folder, removed at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void write_file(const std::filesystem::path& path, const std::string& bytes);
std::string read_file(const std::filesystem::path& path);

// Runs a shell command, returning exit status and what it printed on both streams.
struct CommandResult {
  int status = -1;
  std::string output;
};
CommandResult run_command(const std::string& command);

// The folder of real data beside the project (EQ_SHARED_DATA, or ../shared/data next to the source tree); empty when absent.
std::filesystem::path shared_data();
// Ends the test case with a visible "skipped" line when the shared data is absent.
#define EQ_NEED_SHARED_DATA()                                                     \
  if (eq::test::shared_data().empty()) {                                          \
    WARN("SKIPPED: the shared data folder is not beside the project");            \
    return;                                                                       \
  }

}  // namespace eq::test
