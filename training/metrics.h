#pragma once
// Segmentation metrics from one streaming confusion matrix: integers over the whole data set, never means of pictures, and
// no prediction is kept.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace eq {

struct ClassMetrics {
  std::string name;
  double iou = 0;        // intersection / union; NaN: absent from labels and predictions
  double acc = 0;        // intersection / label pixels (recall); NaN: absent from the labels
  double dice = 0;       // 2 intersection / (label + predicted pixels), which is F1; NaN: absent from both
  double precision = 0;  // intersection / predicted pixels; NaN: never predicted
  int64_t pixels = 0;    // of this class in the labels
  bool absent() const { return iou != iou; }
};

struct SegmentationMetrics {
  std::vector<ClassMetrics> classes;
  double miou = 0;  // mean over the classes that are not absent; NaN when all are
  double macc = 0;  // mean of acc over the classes that occur in the labels
  double mdice = 0;  // mean over the classes that are not absent
  double aacc = 0;  // correct pixels / labelled pixels
  // Mean of -log(probability of the label) over labelled pixels, in nats, whatever the network was trained with; NaN where nobody has
  // measured it: confusions do not know it, evaluate() does.
  double cross_entropy = std::numeric_limits<double>::quiet_NaN();
  int64_t classes_in_mean = 0;  // how many entered miou
  int64_t pixels = 0;           // labelled, not ignored
  int64_t ignored_pixels = 0;
};

// What a part of a data set, a picture say, adds to the IoU of a class.
struct ClassCounts {
  int64_t index = 0;                              // of the class
  int64_t both = 0, labelled = 0, predicted = 0;  // pixels; both: labelled and predicted so
};

class ConfusionMatrix {
 public:
  ConfusionMatrix(int64_t num_classes, int64_t ignore_index);

  // Counts one label map against its prediction, both uint8 [...] of one shape. Pixels labelled ignore_index do not count.
  // Throws DataError naming `where`, the pixel and the value for another label outside the classes, ShapeError for unequal
  // shapes, UsageError for a prediction outside the classes; nothing is counted then.
  void add(const Tensor& labels, const Tensor& predictions, const std::string& where = "");

  // Counts what another one has counted, of as many classes.
  void add(const ConfusionMatrix& other);

  int64_t num_classes() const { return num_classes_; }
  int64_t labelled() const;                                // pixels counted, the ignored ones not among them
  int64_t count(int64_t label, int64_t prediction) const;  // throws UsageError for what is no class
  std::vector<ClassCounts> class_counts() const;           // of the classes that are labelled or predicted somewhere, in order
  // One value per class name; throws UsageError when their number is not num_classes.
  SegmentationMetrics metrics(const std::vector<std::string>& class_names) const;

 private:
  ClassCounts counts_of(int64_t index) const;

  int64_t num_classes_, ignore_index_;
  std::vector<int64_t> counts_;  // [label][prediction]
  int64_t ignored_ = 0;
};

// The class of the highest score per position, the first of equals: [..., K] floating -> [...] uint8, K <= 256. NaN wins over numbers,
// so that it does not pass for class 0 unseen.
Tensor argmax_classes(const Tensor& logits);

// mmsegmentation's two tables (Class, IoU, Acc, Dice in percent with two decimals, here with precision and pixel count; aAcc, mIoU,
// mAcc, mDice, and the cross-entropy where it is known) and a line saying how many classes entered the mean. Absent values are written
// "absent", the precision of a class that was found nowhere "-".
std::string to_table(const SegmentationMetrics& metrics);

}  // namespace eq
