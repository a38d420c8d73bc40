#pragma once
// Internal to the configuration: one description of its keys serves reading, writing and checking.

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "datasets/image.h"
#include "training/config.h"

namespace eq {

// What a description calls for each key: the reader stores into the value and checks it, the writer takes from it.
class Fields {
 public:
  static constexpr int64_t kMost = int64_t{1} << 40;  // of counts without a bound of their own
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  using Visit = std::function<void(Fields&)>;

  virtual ~Fields() = default;
  virtual void integer(const char* key, int64_t& value, int64_t low, int64_t high = kMost) = 0;
  virtual void number(const char* key, double& value, double low, double high = kInfinity) = 0;
  virtual void flag(const char* key, bool& value) = 0;
  // One of `choices`, any text if there are none.
  virtual void text(const char* key, std::string& value, const std::vector<std::string>& choices = {}) = 0;
  // Lists; `count` elements, any number if 0.
  virtual void integers(const char* key, std::vector<int64_t>& values, int64_t low, int64_t high, size_t count = 0) = 0;
  virtual void numbers(const char* key, std::vector<double>& values, double low, double high, size_t count = 0) = 0;
  virtual void texts(const char* key, std::vector<std::string>& values) = 0;
  virtual void object(const char* key, const Visit& visit) = 0;
  // null when not `present`.
  virtual void optional_object(const char* key, bool& present, const Visit& visit) = 0;
  // One object for each element: `resize` is told their number (reader), `size` says it (writer).
  virtual void objects(const char* key, size_t size, const std::function<void(size_t)>& resize,
                       const std::function<void(Fields&, size_t)>& visit) = 0;
  // The keys of the present object that were not named before it: names of the user's choice, an object under each.
  virtual void other_objects(const std::vector<std::string>& names,
                             const std::function<void(Fields&, const std::string&)>& visit) = 0;
  // A key of any form, as JSON text: `read` throws std::invalid_argument with the rule that the value breaks.
  virtual void any(const char* key, const std::function<void(const std::string&)>& read,
                   const std::function<std::string()>& write) = 0;

  // Fixed arrays, optional ones (null) and smaller integers.
  template <size_t N>
  void integers(const char* key, std::array<int64_t, N>& values, int64_t low, int64_t high = kMost) {
    std::vector<int64_t> list(values.begin(), values.end());
    integers(key, list, low, high, N);
    std::copy(list.begin(), list.end(), values.begin());
  }
  template <size_t N>
  void numbers(const char* key, std::array<double, N>& values, double low, double high = kInfinity) {
    std::vector<double> list(values.begin(), values.end());
    numbers(key, list, low, high, N);
    std::copy(list.begin(), list.end(), values.begin());
  }
  virtual void optional_pair(const char* key, std::optional<std::array<int64_t, 2>>& value, int64_t low, int64_t high) = 0;
  void small(const char* key, int& value, int low, int high) {
    int64_t wide = value;
    integer(key, wide, low, high);
    value = int(wide);
  }
};

// The colours that a JSON text lists. Throws std::invalid_argument with the rule that it breaks.
Palette palette_from(const std::string& text);

void visit_config(Fields& fields, Config& config);
// Of its section.
void visit_optimizer(Fields& fields, OptimizerOptions& options);
void visit_schedule(Fields& fields, ScheduleOptions& options);
void visit_evaluate(Fields& fields, EvaluateOptions& options);

}  // namespace eq
