// Receptive fields of whole backbones: what is known of them, and that the gradient of a cell ends where its field does.
#include "autograd/receptive_field.h"

#include "autograd/functional.h"
#include "models/backbones/convnext.h"
#include "models/backbones/mobilenet_v1.h"
#include "models/backbones/resnet.h"
#include "models/backbones/swin.h"
#include "models/backbones/twins.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

struct TracedBackbone {
  TracedBackbone(Backbone& net, int64_t height, int64_t width)
      : x(random_tensor({1, height, width, 3}, 3).set_requires_grad()), trace({x}) {
    net.eval();
    levels = net.forward(x);
    trace.end();
    fields.emplace(trace);
  }
  ReceptiveField field(size_t level) const { return fields->of(trace.find(levels[level])).value(); }
  Tensor x;
  Trace trace;
  std::vector<Tensor> levels;
  std::optional<ReceptiveFields> fields;
};

void check_level(const TracedBackbone& traced, size_t level, int64_t row, int64_t column) {
  CAPTURE(level, row, column);
  Tensor x = traced.x;
  x.set_grad({});
  sum(square(slice(slice(traced.levels[level], 1, row, row + 1), 2, column, column + 1))).backward({}, true);
  const std::vector<double> gradient = sum(abs(x.grad()), {3}).to_vector<double>();
  const int value = traced.trace.find(traced.levels[level]);
  const CellRange rows = traced.fields->reads(value, 0, row), columns = traced.fields->reads(value, 1, column);
  double inside = 0, outside = 0;
  for (int64_t i = 0; i < x.size(1); ++i) {
    for (int64_t j = 0; j < x.size(2); ++j) {
      const bool within =
          (rows.everywhere || (rows.first <= i && i <= rows.last)) && (columns.everywhere || (columns.first <= j && j <= columns.last));
      double& most = within ? inside : outside;
      most = std::max(most, gradient[size_t(i * x.size(2) + j)]);
    }
  }
  CHECK(inside > 0);
  CHECK(outside <= 1e-30 * inside);  // what Swin masks with -100 has a weight of 1e-44
}

template <class Network>
void check_backbone(const BackboneOptions& options, const std::vector<int64_t>& first_fields) {
  CAPTURE(options.type);
  const InitRandom random(1, DType::kFloat64);
  Network net(options);
  const TracedBackbone traced(net, 90, 132);
  for (size_t level = 0; level < first_fields.size(); ++level) {
    CHECK(traced.field(level).rows == first_fields[level]);
    CHECK(traced.field(level).row_stride == double(4 << level));
    const Tensor& map = traced.levels[level];
    check_level(traced, level, map.size(1) / 2, map.size(2) / 2);
    check_level(traced, level, 0, map.size(2) - 1);
  }
}

constexpr int64_t kGlobal = ReceptiveField::kGlobal;

}  // namespace

TEST_CASE("fields of backbones are the known ones, and hold the gradients", "[models]") {
  // By hand: 1, and (kernel - 1) * (stride so far) of each layer on the longest way. ResNet-18: 11 by the stem, then four 3x3 a stage, the
  // first of them at the stage before's stride.
  check_backbone<ResNet>({.depth = 18, .stem = "v1", .width = 4}, {43, 99, 211, 435});
  check_backbone<ConvNeXt>({.type = "convnext", .multiplier = 0.0625}, {4 + 3 * 6 * 4, 80 + 3 * 6 * 8});
  check_backbone<SwinTransformer>({.type = "swin", .multiplier = 0.0625}, {2 * 7 * 4});
  check_backbone<MobileNetV1>({.type = "mobilenet_v1", .multiplier = 0.25}, {1 + 2 + 2 * 2 + 2 * 2 + 2 * 4, 19 + 2 * 4 + 2 * 8});
  check_backbone<Twins>({.type = "twins", .multiplier = 0.0625}, {kGlobal});
}
