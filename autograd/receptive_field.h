#pragma once
// Receptive fields: which pixels of an image a cell of a feature map depends on, found by walking a trace (autograd/trace.h) backwards from
// the cell.
//
//   Trace trace({image});                              // [N,H,W,C]
//   const Tensor y = network(image);
//   trace.end();
//   const ReceptiveFields fields(trace);
//   fields.of(trace.find(y));                          // rows, columns, and pixels from one cell to the next
//
// The fields are the theoretical ones: what the operators read, whatever the weights, and as if the picture went on beyond its border. Each
// operator maps a range of cells to the range that it reads, so branches that meet are joined by their hull. Bins of pooling are shares of
// the traced picture's size. Attention in windows (split_windows ... join_windows) reads whole windows; what rolling brings from the
// opposite border is taken to be masked, as it is in Swin. What reads all positions, or what is not known to read few, is global: attention
// over the picture, pooling to one cell, group norm, batch norm in training.

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "autograd/trace.h"

namespace eq {

struct CellRange {
  int64_t first = 0, last = 0;
  bool everywhere = false;
  int64_t count() const { return last - first + 1; }
};

struct ReceptiveField {
  static constexpr int64_t kGlobal = -1;
  int64_t rows = kGlobal,
          columns = kGlobal;  // of the image; the largest among the cells (of neighbours in the middle, where there are many)
  double row_stride = 0, column_stride = 0;   // pixels from a cell to the next; 0: the value has no positions
  bool global() const { return rows == kGlobal && columns == kGlobal; }
};

class ReceptiveFields {
 public:
  explicit ReceptiveFields(const Trace& trace, int image = 0);  // `image`: which input of the trace
  // Of a value of the trace. Nothing where a cell is no place in the image: within windows, or where the value does not depend on it.
  std::optional<ReceptiveField> of(int value) const;
  // Rows (axis 0) or columns (axis 1) that the cell in row or column `position` depends on; they may lie outside the image. Of a value that
  // `of` knows.
  CellRange reads(int value, int axis, int64_t position) const;

 private:
  friend class FieldBuilder;
  enum class Axis { kOther, kRows, kColumns, kCells };  // kCells: rows and columns as one axis
  using Reads = std::function<CellRange(CellRange)>;    // of cells: the cells that they read
  struct Link {
    int from;
    std::array<Reads, 2> reads;  // rows, columns
  };
  struct Value {
    bool related = false;               // depends on the image
    bool windowed = false;              // rows are windows of `sources`
    std::vector<int> sources;           // what was split into windows
    std::vector<Axis> axes;             // empty: no positions
    std::array<int64_t, 2> extent{};    // rows, columns
    std::array<double, 2> stride{};
    std::vector<Link> links;
  };
  int image_;
  std::vector<Value> values_;
};

}  // namespace eq
