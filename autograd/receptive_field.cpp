#include "autograd/receptive_field.h"

#include <algorithm>
#include <map>
#include <typeinfo>

#include "autograd/functional.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/pad2d.h"
#include "core/kernels/reduce.h"
#include "core/kernels/resize.h"
#include "core/kernels/slice.h"
#include "core/kernels/windows.h"

namespace eq {
namespace {

constexpr int64_t kMostCells = 128;  // looked at for the largest field

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

CellRange hull(const CellRange& a, const CellRange& b) {
  return {std::min(a.first, b.first), std::max(a.last, b.last), a.everywhere || b.everywhere};
}

CellRange same(CellRange y) { return y; }
CellRange all_of_it(CellRange) { return {0, 0, true}; }

}  // namespace

// Goes through the operations in their order and notes for each result where its positions are, and what they read.
class FieldBuilder {
 public:
  using Operation = const TracedOperation&;
  using Fields = ReceptiveFields;
  using Axis = Fields::Axis;
  using Value = Fields::Value;

  FieldBuilder(Fields& fields, const Trace& trace) : fields_(fields), trace_(trace) {}

  void run() {
    fields_.values_.resize(trace_.values().size());
    const Shape& shape = trace_.values()[size_t(fields_.image_)].shape;
    Value& image = value(fields_.image_);
    image.related = true;
    if (shape.rank() == 4) image.axes = kImage, image.extent = {shape[1], shape[2]}, image.stride = {1, 1};
    for (const TracedOperation& operation : trace_.operations()) {
      bool related = false, windowed = false;
      for (const int input : operation.inputs) {
        if (input < 0 || !value(input).related) continue;
        related = true;
        windowed |= value(input).windowed;
      }
      if (!related) continue;
      value(operation.output).related = true;
      const auto rule = rules().find(operation.op);
      if (windowed && operation.op != std::string("join_windows")) {
        mix(operation);
      } else if (operation.options.type() == typeid(UnaryNumbers)) {
        pointwise(operation);
      } else if (rule == rules().end()) {
        mix(operation);
      } else {
        (this->*rule->second)(operation);
      }
    }
  }

 private:
  using Rule = void (FieldBuilder::*)(Operation);
  static const std::map<std::string, Rule>& rules() {
    static const std::map<std::string, Rule> all = {
        {"add", &FieldBuilder::pointwise}, {"sub", &FieldBuilder::pointwise}, {"mul", &FieldBuilder::pointwise},
        {"div", &FieldBuilder::pointwise}, {"maximum", &FieldBuilder::pointwise}, {"minimum", &FieldBuilder::pointwise},
        {"cast", &FieldBuilder::pointwise}, {"expand", &FieldBuilder::pointwise},
        {"linear", &FieldBuilder::channelwise}, {"layer_norm", &FieldBuilder::channelwise}, {"softmax", &FieldBuilder::channelwise},
        {"log_softmax", &FieldBuilder::channelwise},
        {"batch_norm", &FieldBuilder::batch_norm},
        {"matmul", &FieldBuilder::matmul},
        {"conv2d", &FieldBuilder::conv2d},
        {"max_pool2d", &FieldBuilder::pool}, {"avg_pool2d", &FieldBuilder::pool},
        {"adaptive_avg_pool2d", &FieldBuilder::adaptive_pool},
        {"resize_bilinear", &FieldBuilder::resize_bilinear},
        {"resize_nearest", &FieldBuilder::resize_nearest},
        {"fuse_levels", &FieldBuilder::fuse_levels},
        {"pad2d", &FieldBuilder::pad},
        {"slice", &FieldBuilder::slice},
        {"concat", &FieldBuilder::concat},
        {"reshape", &FieldBuilder::reshape},
        {"permute", &FieldBuilder::permute},
        {"sum", &FieldBuilder::reduce}, {"mean", &FieldBuilder::reduce}, {"var", &FieldBuilder::reduce}, {"max", &FieldBuilder::reduce},
        {"argmax", &FieldBuilder::reduce},
        {"split_windows", &FieldBuilder::split_windows},
        {"join_windows", &FieldBuilder::join_windows},
    };
    return all;
  }

  inline static const std::vector<Axis> kImage = {Axis::kOther, Axis::kRows, Axis::kColumns, Axis::kOther};

  Value& value(int index) { return fields_.values_[size_t(index)]; }
  const Shape& shape(int index) const { return trace_.values()[size_t(index)].shape; }
  bool is_image(int index) { return value(index).axes == kImage; }
  std::vector<int> related(Operation operation) {
    std::vector<int> list;
    for (const int input : operation.inputs) {
      if (input >= 0 && value(input).related) list.push_back(input);
    }
    return list;
  }
  void link(int y, int from, Fields::Reads rows, Fields::Reads columns) {
    value(y).links.push_back({from, {std::move(rows), std::move(columns)}});
  }

  // Every position from every other: of the picture, or of a window where all that is read lies in windows of one kind.
  void mix(Operation operation) {
    Value& y = value(operation.output);
    y.axes.clear();
    y.links.clear();
    y.windowed = true;
    for (const int input : related(operation)) {
      link(operation.output, input, all_of_it, all_of_it);
      y.windowed = y.windowed && value(input).windowed;
      y.sources.insert(y.sources.end(), value(input).sources.begin(), value(input).sources.end());
    }
    std::sort(y.sources.begin(), y.sources.end());
    y.sources.erase(y.windowed ? std::unique(y.sources.begin(), y.sources.end()) : y.sources.begin(), y.sources.end());
  }

  // The result has the positions of `like`.
  void place(int y, int like, const std::vector<Axis>& axes) {
    value(y).axes = axes;
    value(y).extent = value(like).extent;
    value(y).stride = value(like).stride;
  }

  // Each position from the same one of all inputs, NumPy's rule for extents of 1.
  void pointwise(Operation operation) {
    const int y = operation.output, rank = shape(y).rank();
    std::vector<Axis> axes;
    std::array<int64_t, 2> extent{};
    int like = -1;
    for (const int x : related(operation)) {
      std::vector<Axis> aligned = value(x).axes;
      if (aligned.empty()) continue;
      aligned.insert(aligned.begin(), size_t(rank) - aligned.size(), Axis::kOther);
      if (like >= 0 && aligned != axes) return mix(operation);
      if (like < 0 || value(x).extent[0] > extent[0] || value(x).extent[1] > extent[1]) like = x, extent = value(x).extent;
      axes = aligned;
    }
    if (like < 0) return mix(operation);
    // Where a map is repeated along an axis of positions that it does not have itself.
    for (int axis = 0; axis < rank; ++axis) {
      const Axis kind = axes[size_t(axis)];
      const int64_t wanted = kind == Axis::kRows      ? extent[0]
                             : kind == Axis::kColumns ? extent[1]
                             : kind == Axis::kCells   ? extent[0] * extent[1]
                                                      : shape(y)[axis];
      if (wanted != shape(y)[axis]) return mix(operation);
    }
    place(y, like, axes);
    for (const int x : related(operation)) {
      if (value(x).axes.empty()) {
        link(y, x, all_of_it, all_of_it);
        continue;
      }
      const auto read = [&](int axis) -> Fields::Reads {
        if (value(x).extent[size_t(axis)] == extent[size_t(axis)]) return same;
        return [](CellRange) { return CellRange{0, 0}; };
      };
      link(y, x, read(0), read(1));
    }
  }

  // The same, of operators that mix the last axis.
  void channelwise(Operation operation) {
    for (const int x : related(operation)) {
      if (!value(x).axes.empty() && value(x).axes.back() != Axis::kOther) return mix(operation);
    }
    const int x = operation.inputs[0];
    if (related(operation) != std::vector<int>{x} || value(x).axes.empty()) return mix(operation);
    place(operation.output, x, value(x).axes);
    link(operation.output, x, same, same);
  }

  void batch_norm(Operation operation) { operation.as<BatchNormOptions>().training ? mix(operation) : channelwise(operation); }

  void matmul(Operation operation) {
    shape(operation.inputs[0]).rank() == shape(operation.output).rank() ? channelwise(operation) : mix(operation);
  }

  // Cells of one image read a range of another's: kernel, stride, padding, or whatever else.
  void windows(Operation operation, const std::array<Fields::Reads, 2>& reads, const std::array<double, 2>& stride) {
    const int x = operation.inputs[0], y = operation.output;
    if (!is_image(x)) return mix(operation);
    for (const int other : related(operation)) {
      if (other != x) link(y, other, all_of_it, all_of_it);  // a computed weight
    }
    link(y, x, reads[0], reads[1]);
    value(y).axes = kImage;
    value(y).extent = {shape(y)[1], shape(y)[2]};
    for (size_t axis = 0; axis < 2; ++axis) value(y).stride[axis] = value(x).stride[axis] * stride[axis];
  }

  static Fields::Reads sliding(int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
    return [=](CellRange y) { return CellRange{y.first * stride - pad, y.last * stride - pad + (kernel - 1) * dilation, y.everywhere}; };
  }

  void conv2d(Operation operation) {
    const auto& o = operation.as<Conv2dOptions>();
    const Shape& weight = shape(operation.inputs[1]);
    windows(operation, {sliding(weight[1], o.stride_h, o.pad_top, o.dilation_h), sliding(weight[2], o.stride_w, o.pad_left, o.dilation_w)},
            {double(o.stride_h), double(o.stride_w)});
  }

  void pool(Operation operation) {
    const auto& o = operation.as<Pool2dOptions>();
    windows(operation, {sliding(o.kernel_h, o.stride_h, o.pad_h, 1), sliding(o.kernel_w, o.stride_w, o.pad_w, 1)},
            {double(o.stride_h), double(o.stride_w)});
  }

  void adaptive_pool(Operation operation) {
    const auto bins = [](int64_t in, int64_t out) -> Fields::Reads {
      if (out == 1) return all_of_it;
      return [=](CellRange y) { return CellRange{floor_div(y.first * in, out), -floor_div(-(y.last + 1) * in, out) - 1, y.everywhere}; };
    };
    resized(operation, bins, [](int64_t in, int64_t out) { return double(in) / double(out); });
  }

  template <class ReadsOf, class StrideOf>
  void resized(Operation operation, const ReadsOf& reads, const StrideOf& stride) {
    const Shape &in = shape(operation.inputs[0]), &out = shape(operation.output);
    windows(operation, {reads(in[1], out[1]), reads(in[2], out[2])}, {stride(in[1], out[1]), stride(in[2], out[2])});
  }

  static Fields::Reads bilinear(int64_t in, int64_t out, bool align_corners) {
    return [=](CellRange y) {
      const auto first = bilinear_coordinate(y.first, in, out, align_corners), last = bilinear_coordinate(y.last, in, out, align_corners);
      return CellRange{floor_div(first.numerator, first.denominator), -floor_div(-last.numerator, last.denominator), y.everywhere};
    };
  }
  static double bilinear_stride(int64_t in, int64_t out, bool align_corners) {
    return !align_corners || out == 1 ? double(in) / double(out) : double(in - 1) / double(out - 1);
  }

  void resize_bilinear(Operation operation) {
    const bool align_corners = operation.as<bool>();
    resized(operation, [=](int64_t in, int64_t out) { return bilinear(in, out, align_corners); },
            [=](int64_t in, int64_t out) { return bilinear_stride(in, out, align_corners); });
  }

  void resize_nearest(Operation operation) {
    const auto reads = [](int64_t in, int64_t out) -> Fields::Reads {
      return [=](CellRange y) { return CellRange{floor_div(y.first * in, out), floor_div(y.last * in, out), y.everywhere}; };
    };
    resized(operation, reads, [](int64_t in, int64_t out) { return double(in) / double(out); });
  }

  void fuse_levels(Operation operation) {
    const auto& o = operation.as<TracedLevels>();
    const int y = operation.output;
    const size_t count = (operation.inputs.size() - 1) / 3;
    for (size_t i = 0; i < operation.inputs.size(); ++i) {
      const int x = operation.inputs[i];
      if (x < 0 || !value(x).related) continue;
      if (i >= count || !is_image(x)) {  // a computed scale
        link(y, x, all_of_it, all_of_it);
        continue;
      }
      const auto inside = [](int64_t in, int64_t out, int64_t pad, bool align_corners) -> Fields::Reads {
        return [=](CellRange range) { return bilinear(in, out, align_corners)({range.first - pad, range.last - pad, range.everywhere}); };
      };
      link(y, x, inside(shape(x)[1], o.out_h, o.pad_h, o.align_corners), inside(shape(x)[2], o.out_w, o.pad_w, o.align_corners));
      if (!value(y).axes.empty()) continue;
      value(y).axes = kImage;
      value(y).extent = {shape(y)[1], shape(y)[2]};
      value(y).stride = {value(x).stride[0] * bilinear_stride(shape(x)[1], o.out_h, o.align_corners),
                         value(x).stride[1] * bilinear_stride(shape(x)[2], o.out_w, o.align_corners)};
    }
  }

  static Fields::Reads shifted(int64_t by) {
    return [=](CellRange y) { return CellRange{y.first + by, y.last + by, y.everywhere}; };
  }

  void pad(Operation operation) {
    const auto& o = operation.as<Padding>();
    windows(operation, {shifted(-o.top), shifted(-o.left)}, {1, 1});
  }

  void slice(Operation operation) {
    const auto& range = operation.as<SliceRange>();
    const int x = operation.inputs[0], y = operation.output;
    if (value(x).axes.empty()) return mix(operation);
    const Axis axis = value(x).axes[size_t(range.axis)];
    if (axis == Axis::kCells) return mix(operation);
    place(y, x, value(x).axes);
    if (axis == Axis::kRows) value(y).extent[0] = shape(y)[range.axis];
    if (axis == Axis::kColumns) value(y).extent[1] = shape(y)[range.axis];
    link(y, x, axis == Axis::kRows ? shifted(range.begin) : same, axis == Axis::kColumns ? shifted(range.begin) : same);
  }

  void concat(Operation operation) {
    const std::vector<int> inputs = related(operation);
    const size_t axis = size_t(operation.as<int>());
    int like = -1;
    for (const int x : inputs) {
      if (value(x).axes.empty()) continue;
      if (value(x).axes[axis] != Axis::kOther || (like >= 0 && value(x).axes != value(like).axes)) return mix(operation);
      like = x;
    }
    if (like < 0) return mix(operation);
    place(operation.output, like, value(like).axes);
    for (const int x : inputs) {
      const bool placed = !value(x).axes.empty();
      link(operation.output, x, placed ? same : all_of_it, placed ? same : all_of_it);
    }
  }

  void permute(Operation operation) {
    const int x = operation.inputs[0];
    if (value(x).axes.empty()) return mix(operation);
    std::vector<Axis> axes;
    for (const int axis : operation.as<std::vector<int>>()) axes.push_back(value(x).axes[size_t(axis)]);
    place(operation.output, x, axes);
    link(operation.output, x, same, same);
  }

  void reduce(Operation operation) {
    const auto& o = operation.as<Reduction>();
    const int x = operation.inputs[0];
    std::vector<Axis> axes;
    for (size_t axis = 0; axis < value(x).axes.size(); ++axis) {
      const bool reduced = o.axes >> axis & 1;
      if (reduced && value(x).axes[axis] != Axis::kOther) return mix(operation);
      if (!reduced || o.keepdim) axes.push_back(value(x).axes[axis]);
    }
    if (axes.empty()) return mix(operation);
    place(operation.output, x, axes);
    link(operation.output, x, same, same);
  }

  // Rows and columns stay where their axes stay, become one axis or two again, or are cut into blocks, [H] to [H/b, b]: then a position
  // reads b of them.
  void reshape(Operation operation) {
    const int x = operation.inputs[0], y = operation.output;
    const Shape &in = shape(x), &out = shape(y);
    if (value(x).axes.empty() || in.numel() == 0) return mix(operation);
    std::vector<Axis> axes(size_t(out.rank()), Axis::kOther);
    std::array<int64_t, 2> block = {1, 1};
    for (int i = 0, j = 0; i < in.rank() || j < out.rank();) {
      // The fewest axes that have as many elements on both sides.
      std::vector<Axis> from;
      std::vector<int> to;
      int64_t p = 1, q = 1;
      do {
        if (i < in.rank() && (p < q || from.empty())) {
          if (in[i] != 1 || value(x).axes[size_t(i)] != Axis::kOther) from.push_back(value(x).axes[size_t(i)]);
          p *= in[i++];
        } else if (j < out.rank() && (q < p || to.empty())) {
          if (out[j] != 1) to.push_back(j);
          q *= out[j++];
        } else {
          break;
        }
      } while (p != q || (from.empty() && i < in.rank()) || (to.empty() && j < out.rank()));
      const bool placed = std::any_of(from.begin(), from.end(), [](Axis axis) { return axis != Axis::kOther; });
      if (!placed) continue;
      const bool one = from.size() == 1, both = from == std::vector<Axis>{Axis::kRows, Axis::kColumns};
      if (to.empty() || (!one && !both)) return mix(operation);
      if (both && to.size() == 1) {
        axes[size_t(to[0])] = Axis::kCells;
      } else if (one && from[0] == Axis::kCells && to.size() == 2 && out[to[0]] == value(x).extent[0]) {
        axes[size_t(to[0])] = Axis::kRows, axes[size_t(to[1])] = Axis::kColumns;
      } else if (one && (from[0] != Axis::kCells || to.size() == 1)) {
        axes[size_t(to[0])] = from[0];
        if (from[0] != Axis::kCells) block[from[0] == Axis::kRows ? 0 : 1] = p / out[to[0]];
      } else {
        return mix(operation);
      }
    }
    place(y, x, axes);
    std::array<Fields::Reads, 2> reads;
    for (size_t axis = 0; axis < 2; ++axis) {
      value(y).extent[axis] /= block[axis];
      value(y).stride[axis] *= double(block[axis]);
      reads[axis] = sliding(block[axis], block[axis], 0, 1);
    }
    link(y, x, reads[0], reads[1]);
  }

  void split_windows(Operation operation) {
    const int x = operation.inputs[0];
    if (!is_image(x)) return mix(operation);
    mix(operation);
    value(operation.output).windowed = true;
    value(operation.output).sources = {x};
    grids_.emplace(x, operation.as<WindowGrid>());
  }

  void join_windows(Operation operation) {
    const int x = operation.inputs[0], y = operation.output;
    const auto& grid = operation.as<WindowGrid>();
    const bool known = value(x).windowed &&
                       std::all_of(value(x).sources.begin(), value(x).sources.end(), [&](int source) { return grids_.at(source) == grid; });
    if (!known) {
      mix(operation);
      value(y).windowed = false;
      value(y).sources.clear();
      return;
    }
    const auto whole_windows = [](const WindowAxis& axis) -> Fields::Reads {
      return [size = axis.size, shift = axis.shift](CellRange range) {
        return CellRange{floor_div(range.first - shift, size) * size + shift, floor_div(range.last - shift, size) * size + shift + size - 1,
                         range.everywhere};
      };
    };
    for (const int source : value(x).sources) {
      link(y, source, whole_windows(grid.h), whole_windows(grid.w));
      place(y, source, kImage);
    }
  }

  Fields& fields_;
  const Trace& trace_;
  std::map<int, WindowGrid> grids_;  // by what was split
};

ReceptiveFields::ReceptiveFields(const Trace& trace, int image) : image_(image) { FieldBuilder(*this, trace).run(); }

CellRange ReceptiveFields::reads(int value, int axis, int64_t position) const {
  std::vector<std::optional<CellRange>> wanted(size_t(value) + 1);
  wanted[size_t(value)] = CellRange{position, position, values_[size_t(value)].axes.empty()};
  // Values come after what they are computed from.
  for (int v = value; v > image_; --v) {
    if (!wanted[size_t(v)]) continue;
    for (const Link& link : values_[size_t(v)].links) {
      CellRange read = link.reads[size_t(axis)](*wanted[size_t(v)]);
      read.everywhere |= wanted[size_t(v)]->everywhere;
      std::optional<CellRange>& all = wanted[size_t(link.from)];
      all = all ? hull(*all, read) : read;
    }
  }
  return wanted[size_t(image_)].value_or(CellRange{0, -1});
}

std::optional<ReceptiveField> ReceptiveFields::of(int index) const {
  if (index < 0 || size_t(index) >= values_.size() || !values_[size_t(index)].related || values_[size_t(index)].windowed) {
    return std::nullopt;
  }
  const Value& value = values_[size_t(index)];
  ReceptiveField field;
  if (value.axes.empty()) return field;
  field.row_stride = value.stride[0];
  field.column_stride = value.stride[1];
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t extent = value.extent[size_t(axis)], cells = std::min(extent, kMostCells), begin = (extent - cells) / 2;
    int64_t most = 0;
    for (int64_t i = begin; i < begin + cells && most != ReceptiveField::kGlobal; ++i) {
      const CellRange read = reads(index, axis, i);
      most = read.everywhere ? ReceptiveField::kGlobal : std::max(most, read.count());
    }
    (axis == 0 ? field.rows : field.columns) = most;
  }
  return field;
}

}  // namespace eq
