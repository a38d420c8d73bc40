// What moves values and computes none.
#include <algorithm>
#include <limits>

#include "core/kernels/pad2d.h"
#include "core/kernels/slice.h"
#include "core/kernels/windows.h"
#include "onnx/translation.h"

namespace eq {
namespace {

using Operation = const TracedOperation&;

void reshape_to(OnnxTranslation& to, Operation operation, const std::string& x) {
  // An extent of -1 is what remains: the one that follows the batch.
  to.name_last(operation.output, to.graph().add("Reshape", {x, to.graph().constant(to.extents(operation.output))}));
}

void reshape(OnnxTranslation& to, Operation operation) { reshape_to(to, operation, to.last(operation.inputs[0])); }

void permute(OnnxTranslation& to, Operation operation) {
  const auto& axes = operation.as<std::vector<int>>();
  const std::vector<int64_t> order(axes.begin(), axes.end());
  to.name_last(operation.output, to.graph().add("Transpose", {to.last(operation.inputs[0])}, {{"perm", order}}));
}

void expand(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0];
  std::vector<int64_t> extents = to.extents(operation.output);
  const std::vector<int64_t> before = to.extents(x);
  // Where the batch is there already, an extent of 1 leaves it as it is.
  for (size_t axis = 0; axis < extents.size(); ++axis) {
    if (extents[axis] != OnnxGraph::kAnyBatch) continue;
    if (axis + before.size() < extents.size() || before[axis + before.size() - extents.size()] != OnnxGraph::kAnyBatch) {
      throw UsageError("a value is repeated for each picture of the batch", "expand to " + to_string(to.shape(operation.output)),
                       "export for one size of batch");
    }
    extents[axis] = 1;
  }
  to.name_last(operation.output, to.graph().add("Expand", {to.last(x), to.graph().constant(extents)}));
}

// An axis of a value that has its channels last, where they come first.
int64_t axis_of(int axis, bool channels_first) { return !channels_first || axis == 0 ? axis : axis == 3 ? 1 : axis + 1; }

std::string slice_of(OnnxTranslation& to, const std::string& x, int64_t axis, int64_t begin, int64_t end) {
  const auto one = [&](int64_t value) { return to.graph().constant(std::vector<int64_t>{value}); };
  return to.graph().add("Slice", {x, one(begin), one(end), one(axis)});
}

void slice(OnnxTranslation& to, Operation operation) {
  const auto& range = operation.as<SliceRange>();
  const int x = operation.inputs[0], y = operation.output;
  if (to.extents(x)[size_t(range.axis)] == OnnxGraph::kAnyBatch) {
    throw UsageError("a part of the batch is taken", "slice of " + to_string(to.shape(x)), "export for one size of batch");
  }
  const bool first = to.is_first(x);
  const std::string part = slice_of(to, to.as_it_is(x), axis_of(range.axis, first), range.begin, range.begin + to.shape(y)[range.axis]);
  to.name(y, first, part);
}

void concat(OnnxTranslation& to, Operation operation) {
  const bool first = std::any_of(operation.inputs.begin(), operation.inputs.end(), [&](int x) { return to.is_first(x); });
  std::vector<std::string> inputs;
  for (int x : operation.inputs) inputs.push_back(to.operand(x, first));
  const std::string all = to.graph().add("Concat", inputs, {{"axis", axis_of(operation.as<int>(), first)}});
  to.name(operation.output, first, all);
}

void pad2d(OnnxTranslation& to, Operation operation) {
  const auto& p = operation.as<Padding>();
  const int x = operation.inputs[0];
  const bool first = to.is_first(x);
  const std::vector<int64_t> amounts = first ? std::vector<int64_t>{0, 0, p.top, p.left, 0, 0, p.bottom, p.right}
                                             : std::vector<int64_t>{0, p.top, p.left, 0, 0, p.bottom, p.right, 0};
  const std::string y =
      to.graph().add("Pad", {to.as_it_is(x), to.graph().constant(amounts), to.number(p.value, x)}, {{"mode", "constant"}});
  to.name(operation.output, first, y);
}

void cast(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0], y = operation.output;
  const bool first = to.is_first(x);
  const std::string result = to.graph().add("Cast", {to.as_it_is(x)}, {{"to", int64_t(OnnxGraph::element_type(to.dtype(y)))}});
  to.name(y, first, result);
}

// Cells of an axis, rolled by -shift.
std::string rolled(OnnxTranslation& to, const std::string& x, int64_t axis, int64_t shift) {
  if (shift == 0) return x;
  const std::string behind = slice_of(to, x, axis, shift, std::numeric_limits<int64_t>::max()), before = slice_of(to, x, axis, 0, shift);
  return to.graph().add("Concat", {behind, before}, {{"axis", axis}});
}

// [N, rows, size, columns, size, C] and [N, rows, columns, size, size, C]: one from the other.

std::string swapped(OnnxTranslation& to, const std::string& x, const std::vector<int64_t>& extents) {
  const std::string cells = to.graph().add("Reshape", {x, to.graph().constant(extents)});
  return to.graph().add("Transpose", {cells}, {{"perm", std::vector<int64_t>{0, 1, 3, 2, 4, 5}}});
}

// core/kernels/windows.h: padded, rolled, cut.
void split_windows(OnnxTranslation& to, Operation operation) {
  const int image = operation.inputs[0];
  const auto& grid = operation.as<WindowGrid>();
  std::string x = to.last(image);
  const int64_t bottom = grid.h.cells() - grid.h.extent, right = grid.w.cells() - grid.w.extent;
  if (bottom > 0 || right > 0) {
    x = to.graph().add("Pad", {x, to.graph().constant({0, 0, 0, 0, 0, bottom, right, 0}), to.number(0, image)}, {{"mode", "constant"}});
  }
  x = rolled(to, rolled(to, x, 1, grid.h.shift), 2, grid.w.shift);
  reshape_to(to, operation,
             swapped(to, x, {to.extents(image)[0], grid.h.count, grid.h.size, grid.w.count, grid.w.size, to.shape(image)[3]}));
}

void join_windows(OnnxTranslation& to, Operation operation) {
  const int y = operation.output;
  const auto& grid = operation.as<WindowGrid>();
  const int64_t count = to.extents(y)[0], channels = to.shape(y)[3];
  std::string x = swapped(to, to.last(operation.inputs[0]), {count, grid.h.count, grid.w.count, grid.h.size, grid.w.size, channels});
  x = to.graph().add("Reshape", {x, to.graph().constant({count, grid.h.cells(), grid.w.cells(), channels})});
  const auto back = [](const WindowAxis& axis) { return axis.shift == 0 ? 0 : axis.cells() - axis.shift; };
  x = rolled(to, rolled(to, x, 1, back(grid.h)), 2, back(grid.w));
  if (grid.h.cells() > grid.h.extent) x = slice_of(to, x, 1, 0, grid.h.extent);
  if (grid.w.cells() > grid.w.extent) x = slice_of(to, x, 2, 0, grid.w.extent);
  to.name_last(y, x);
}

}  // namespace

std::vector<OnnxOperator> onnx_shape_operators() {
  return {{"reshape", reshape}, {"permute", permute}, {"expand", expand}, {"slice", slice}, {"concat", concat}, {"pad2d", pad2d},
          {"cast", cast}, {"split_windows", split_windows}, {"join_windows", join_windows}};
}

}  // namespace eq
