#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

#include "autograd/gradcheck.h"
#include "core/random.h"

namespace eq::test {

Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype) {
  Tensor result = Tensor::empty(shape, DType::kFloat64);
  Random random(seed);
  for (int64_t i = 0; i < result.numel(); ++i) result.data<double>()[i] = random.normal();
  return result.to(dtype);
}

Tensor random_leaf(const Shape& shape, uint64_t seed, DType dtype) {
  return random_tensor(shape, seed, dtype).set_requires_grad();
}

Tensor repeated_rows(const Tensor& x, int64_t times) {
  const int64_t channels = x.size(-1);
  Shape shape = x.shape();
  shape.set(x.rank() - 2, x.size(-2) * times);
  Tensor result = Tensor::empty(shape, DType::kFloat64);
  double* to = result.data<double>();
  for (const double* row = x.data<double>(); row < x.data<double>() + x.numel(); row += channels) {
    for (int64_t k = 0; k < times; ++k) to = std::copy_n(row, channels, to);
  }
  return result;
}

Tensor distinct_tensor(const Shape& shape, uint64_t seed, DType dtype) {
  Tensor result = Tensor::empty(shape, DType::kFloat64);
  double* values = result.data<double>();
  const int64_t count = result.numel();
  for (int64_t i = 0; i < count; ++i) values[i] = double(2 * i - count) / double(count);
  Random random(seed);
  for (int64_t i = count - 1; i > 0; --i) std::swap(values[i], values[random.uniform_int(0, i + 1)]);
  return result.to(dtype);
}

double scaled_difference(const Tensor& a, const Tensor& b) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!a.defined() || !b.defined() || !(a.shape() == b.shape())) return kInfinity;
  double scale = 1, worst = 0;
  for (int64_t i = 0; i < b.numel(); ++i) scale = std::max(scale, std::abs(b.value_at(i)));
  for (int64_t i = 0; i < b.numel(); ++i) {
    const double difference = std::abs(a.value_at(i) - b.value_at(i));
    if (std::isnan(difference)) return kInfinity;
    worst = std::max(worst, difference);
  }
  return worst / scale;
}

void check_close(const Tensor& actual, const Tensor& expected, double tolerance) {
  INFO("actual   " << to_string(actual, 16));
  INFO("expected " << to_string(expected, 16));
  CHECK(scaled_difference(actual, expected) <= tolerance);
}

bool bit_equal(const Tensor& a, const Tensor& b) {
  return a.defined() && b.defined() && a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0;
}

void check_gradients(const std::function<Tensor(const std::vector<Tensor>&)>& fn, const std::vector<Tensor>& inputs,
                     double tolerance) {
  GradcheckOptions options;
  options.tolerance = tolerance;
  const GradcheckResult result = gradcheck(fn, inputs, options);
  INFO(result.message);
  CHECK(result.ok);
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "equiscale-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
}

std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

CommandResult run_command(const std::string& command) {
  CommandResult result;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[4096];
  for (size_t got; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.output.append(buffer, got);
  const int status = pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::filesystem::path shared_data() {
  const char* variable = std::getenv("EQ_SHARED_DATA");
  const std::filesystem::path folder =
      variable != nullptr ? std::filesystem::path(variable) : std::filesystem::path(EQ_SOURCE_DIR) / ".." / "shared" / "data";
  return std::filesystem::is_directory(folder / "camvid") ? std::filesystem::canonical(folder) : std::filesystem::path();
}

}  // namespace eq::test
