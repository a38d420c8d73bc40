// Two files of weights: what is paired, under whatever names, and what the differences are.
#include "models/weights_comparison.h"

#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "models/backbones/swin.h"
#include "models/weight_names.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

using Weights = std::map<std::string, Tensor>;

// What unfold_order undoes.
Tensor in_blocks(const Tensor& values) {
  const int64_t channels = values.size(-1) / 4;
  return reshape(permute(reshape(values, {values.numel() / (4 * channels), channels, 2, 2}), {0, 3, 2, 1}), values.shape());
}

Weights small_swin() {
  const InitRandom random(1, DType::kFloat32);
  Weights weights;
  for (const auto& [name, value] : SwinTransformer({.type = "swin", .multiplier = 0.0625}).state_dict()) {
    weights[name] = is_floating(value.dtype()) ? random_tensor(value.shape(), std::hash<std::string>()(name), DType::kFloat32) : value;
  }
  return weights;
}

Weights in_timms_names(const Weights& weights) {
  Weights renamed;
  for (const auto& [name, value] : weights) {
    const ForeignName foreign = name_in(Dialect::kTimm, name);
    renamed[foreign.name] = foreign.merges_patches ? in_blocks(value) : value;
  }
  return renamed;
}

}  // namespace

TEST_CASE("differences of weights are the largest ones, also relative to the tensor", "[models]") {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const Weights first{{"same", random_tensor({3, 2}, 1)},
                      {"moved", Tensor::from<float>({1, -4, 0}, {3})},
                      {"shape", Tensor::zeros({2, 3})},
                      {"mine", Tensor::zeros({1})},
                      {"type", Tensor::from<float>({1, 2}, {2})},
                      {"nan", Tensor::from<double>({nan, 1, nan}, {3})},
                      {"infinite", Tensor::from<double>({infinity, 1}, {2})},
                      {"zero", Tensor::from<float>({0}, {1})},
                      {"empty", Tensor::zeros({0})}};
  const Weights other{{"same", first.at("same").clone()},
                      {"moved", Tensor::from<float>({1.5, -4, 0.25}, {3})},
                      {"shape", Tensor::zeros({3, 2})},
                      {"other", Tensor::zeros({1})},
                      {"type", Tensor::from<double>({1, 2}, {2})},
                      {"nan", Tensor::from<double>({nan, 1, 2}, {3})},
                      {"infinite", Tensor::from<double>({infinity, 2}, {2})},
                      {"zero", Tensor::from<float>({-0.0f}, {1})},
                      {"empty", Tensor::zeros({0})}};
  const WeightsComparison comparison = compare_weights(first, other);
  CHECK(comparison.only_first == std::vector<std::string>{"mine"});
  CHECK(comparison.only_other == std::vector<std::string>{"other"});
  CHECK(comparison.naming.empty());
  CHECK(comparison.bit_equal() == 2);
  CHECK(comparison.misfits() == 1);
  std::map<std::string, SharedTensor> pairs;
  for (const SharedTensor& pair : comparison.shared) pairs[pair.name] = pair;
  REQUIRE(pairs.size() == 8);
  CHECK((pairs["same"].bit_equal && pairs["same"].absolute == 0));
  CHECK(pairs["empty"].bit_equal);
  CHECK((pairs["moved"].absolute == 0.5 && pairs["moved"].relative == 0.125));
  CHECK_FALSE(pairs["shape"].comparable);
  CHECK((pairs["type"].other_type() && pairs["type"].comparable && !pairs["type"].bit_equal && pairs["type"].absolute == 0));
  CHECK((pairs["nan"].absolute == infinity && pairs["nan"].relative == infinity));
  CHECK((pairs["infinite"].absolute == 1 && pairs["infinite"].relative == 0.5));
  CHECK((!pairs["zero"].bit_equal && pairs["zero"].absolute == 0 && pairs["zero"].relative == 0));
  CHECK(comparison.most_apart()->name == "nan");
}

TEST_CASE("batch counters come after what was learned, however far apart they are", "[models]") {
  const Weights first{{"a.num_batches_tracked", Tensor::full({1}, 6, DType::kInt64)}, {"b.weight", Tensor::from<float>({1, 2}, {2})}};
  Weights other{{"a.num_batches_tracked", Tensor::full({1}, 600, DType::kInt64)}, {"b.weight", Tensor::from<float>({1, 2.1f}, {2})}};
  CHECK(compare_weights(first, other).most_apart()->name == "b.weight");
  other["b.weight"] = first.at("b.weight");
  CHECK(compare_weights(first, other).most_apart()->name == "a.num_batches_tracked");
}

TEST_CASE("weights of one backbone are paired under timm's names and without a network around it", "[models]") {
  const Weights ours = small_swin(), timms = in_timms_names(ours);
  const auto all_equal = [&](const Weights& a, const Weights& b, const std::string& naming) {
    const WeightsComparison comparison = compare_weights(a, b);
    CHECK(comparison.naming == naming);
    CHECK(comparison.shared.size() == ours.size());
    CHECK(comparison.bit_equal() == int64_t(ours.size()));
    return comparison;
  };
  CHECK(all_equal(ours, timms, "the other file has timm's names").only_other.empty());
  CHECK(all_equal(timms, ours, "the first file has timm's names").shared[0].name == "layers.0.blocks.0.attn.proj.bias");
  all_equal(timms, timms, "");
  Weights network{{"decode_head.conv_seg.bias", Tensor::zeros({2})}};
  for (const auto& [name, value] : ours) network["backbone." + name] = value;
  CHECK(all_equal(network, timms, "the other file has timm's names, and without \"backbone.\"").only_first ==
        std::vector<std::string>{"decode_head.conv_seg.bias"});
  CHECK(all_equal(ours, network, "the first file has names without \"backbone.\"").only_other ==
        std::vector<std::string>{"decode_head.conv_seg.bias"});
  // Renamed alone, patch merging would be another network.
  Weights careless = timms;
  careless["layers.1.downsample.reduction.weight"] = ours.at("stages.0.downsample.reduction.weight");
  CHECK(compare_weights(ours, careless).bit_equal() == int64_t(ours.size()) - 1);
}

TEST_CASE("comparing weights survives files that are no network's", "[models]") {
  CHECK(compare_weights({}, {}).shared.empty());
  CHECK(compare_weights({{"a", Tensor::zeros({1})}}, {}).only_first.size() == 1);
  // Names of patch merging on shapes that it cannot have.
  const Weights odd{{"stages.0.downsample.x", Tensor::zeros({3})},
                    {"stages.0.downsample.y", Tensor::scalar(1)},
                    {"stages.0.blocks.0.norm1.weight", Tensor::zeros({0})}};
  CHECK(compare_weights(odd, in_timms_names({{"stages.0.blocks.0.norm1.weight", Tensor::zeros({0})}})).shared.size() == 1);
  const Weights renamed{{"layers.1.downsample.x", Tensor::zeros({3})},
                        {"layers.1.downsample.y", Tensor::scalar(1)},
                        {"layers.0.blocks.0.norm1.weight", Tensor::zeros({0})}};
  CHECK(compare_weights(odd, renamed).bit_equal() == 3);
}
