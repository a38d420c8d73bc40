#include "models/weights_comparison.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "models/weight_names.h"

namespace eq {
namespace {

using State = std::map<std::string, Tensor>;

constexpr const char* kBackbone = "backbone.";

std::string without_backbone(const std::string& name) { return name.starts_with(kBackbone) ? name.substr(std::strlen(kBackbone)) : name; }

// How the names of `ours` are to be read to be found in `theirs`.
struct Naming {
  bool swapped = false;  // `ours` is the other file
  bool bare = false;     // `theirs` has a backbone alone
  Dialect dialect = Dialect::kOurs;
  int64_t found = 0;
  ForeignName operator()(const std::string& name) const { return name_in(dialect, bare ? without_backbone(name) : name); }
};

Naming naming_between(const State& ours, const State& theirs, bool swapped, bool bare) {
  State read;
  for (const auto& [name, tensor] : ours) read[bare ? without_backbone(name) : name] = tensor;
  Naming naming{swapped, bare, recognise(theirs, read), 0};
  for (const auto& [name, tensor] : read) naming.found += theirs.contains(name_in(naming.dialect, name).name);
  return naming;
}

// The one that pairs most tensors; of several the simplest.
Naming best_naming(const State& first, const State& other) {
  Naming best;
  best.found = -1;
  for (const bool bare : {false, true}) {
    for (const bool swapped : {false, true}) {
      const Naming naming = swapped ? naming_between(other, first, true, bare) : naming_between(first, other, false, bare);
      if (naming.found > best.found) best = naming;
    }
  }
  return best;
}

void measure(SharedTensor& pair, const Tensor& a, const Tensor& b) {
  pair.comparable = true;
  pair.bit_equal = a.dtype() == b.dtype() && (a.numel() == 0 || std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0);
  if (pair.bit_equal) return;
  const Tensor x = a.to(DType::kFloat64), y = b.to(DType::kFloat64);
  const double *p = x.data<double>(), *q = y.data<double>();
  double magnitude = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    if (p[i] == q[i] || (std::isnan(p[i]) && std::isnan(q[i]))) continue;
    const double difference = std::abs(p[i] - q[i]);
    pair.absolute = std::max(pair.absolute, std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference);
  }
  for (int64_t i = 0; i < x.numel(); ++i) {
    for (const double value : {p[i], q[i]}) {
      if (std::isfinite(value)) magnitude = std::max(magnitude, std::abs(value));
    }
  }
  pair.relative = pair.absolute == 0 ? 0 : pair.absolute / magnitude;  // infinite beside nothing but infinities
}

// `mine` is the tensor under our names; as an operator it takes no part in any graph.
SharedTensor compare(const std::string& name, const Tensor& mine, const ForeignName& foreign, const Tensor& theirs, bool renamed) {
  const NoGradGuard no_grad;
  SharedTensor pair{.name = name,
                    .other_name = foreign.name,
                    .dtype = mine.dtype(),
                    .other_dtype = theirs.dtype(),
                    .shape = mine.shape(),
                    .other_shape = theirs.shape()};
  const bool fits = renamed ? same_values(mine.shape(), theirs.shape()) : mine.shape() == theirs.shape();
  if (!fits) return pair;
  const Tensor shaped = theirs.alias(mine.shape());
  const bool merges = renamed && foreign.merges_patches && mine.rank() > 0 && mine.numel() > 0 && mine.size(-1) % 4 == 0;
  measure(pair, mine, merges ? unfold_order(shaped) : shaped);
  return pair;
}

}  // namespace

int64_t WeightsComparison::bit_equal() const {
  return std::count_if(shared.begin(), shared.end(), [](const SharedTensor& pair) { return pair.bit_equal; });
}

int64_t WeightsComparison::misfits() const {
  return std::count_if(shared.begin(), shared.end(), [](const SharedTensor& pair) { return !pair.comparable; });
}

bool farther_apart(const SharedTensor& a, const SharedTensor& b) {
  const bool counts = !is_floating(a.dtype), other_counts = !is_floating(b.dtype);
  return counts != other_counts && a.relative > 0 && b.relative > 0 ? other_counts : a.relative > b.relative;
}

const SharedTensor* WeightsComparison::most_apart() const {
  const auto most = std::min_element(shared.begin(), shared.end(), farther_apart);
  return most == shared.end() || most->relative == 0 ? nullptr : &*most;
}

WeightsComparison compare_weights(const State& first, const State& other) {
  WeightsComparison result;
  const Naming naming = best_naming(first, other);
  const State &ours = naming.swapped ? other : first, &theirs = naming.swapped ? first : other;
  const bool renamed = naming.dialect != Dialect::kOurs;
  std::set<std::string> used;
  std::vector<std::string>&only_ours = naming.swapped ? result.only_other : result.only_first,
  &only_theirs = naming.swapped ? result.only_first : result.only_other;
  for (const auto& [name, tensor] : ours) {
    const ForeignName foreign = naming(name);
    const auto found = theirs.find(foreign.name);
    if (found == theirs.end() || !used.insert(foreign.name).second) {
      only_ours.push_back(name);
      continue;
    }
    SharedTensor pair = compare(name, tensor, foreign, found->second, renamed);
    if (naming.swapped) {
      std::swap(pair.name, pair.other_name);
      std::swap(pair.dtype, pair.other_dtype);
      std::swap(pair.shape, pair.other_shape);
    }
    result.shared.push_back(std::move(pair));
  }
  for (const auto& [name, tensor] : theirs) {
    if (!used.contains(name)) only_theirs.push_back(name);
  }
  std::sort(result.shared.begin(), result.shared.end(), [](const SharedTensor& a, const SharedTensor& b) { return a.name < b.name; });
  const std::string whose = naming.swapped ? "the first file" : "the other file";
  if (!result.shared.empty() && renamed) result.naming = whose + " has " + owner(naming.dialect) + " names";
  if (!result.shared.empty() && naming.bare) {
    result.naming += (renamed ? ", and " : whose + " has names ") + std::string("without \"backbone.\"");
  }
  return result;
}

}  // namespace eq
