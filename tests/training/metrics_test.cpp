#include "training/metrics.h"

#include <cmath>
#include <limits>

#include "core/errors.h"
#include "core/parallel.h"
#include "core/random.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {
Tensor bytes(const std::vector<uint8_t>& values, const Shape& shape) { return Tensor::from<uint8_t>(values, shape); }
}  // namespace

TEST_CASE("metrics of a confusion matrix made by hand", "[metrics]") {
  ConfusionMatrix matrix(4, 255);
  //                        class 0: 3 of 4 right; class 1: 1 of 2; class 2 only predicted; class 3 absent
  matrix.add(bytes({0, 0, 0, 0, 1, 1, 255, 255}, {2, 4}), bytes({0, 0, 0, 1, 1, 2, 0, 3}, {2, 4}));
  CHECK(matrix.count(0, 0) == 3);
  CHECK(matrix.count(0, 1) == 1);
  CHECK(matrix.count(1, 2) == 1);
  const SegmentationMetrics m = matrix.metrics({"sky", "road", "car", "tree"});
  CHECK(m.classes[0].iou == Approx(3.0 / 4));
  CHECK(m.classes[0].acc == Approx(3.0 / 4));
  CHECK(m.classes[0].precision == Approx(1.0));
  CHECK(m.classes[1].iou == Approx(1.0 / 3));
  CHECK(m.classes[1].acc == Approx(1.0 / 2));
  CHECK(m.classes[2].iou == 0);
  CHECK(std::isnan(m.classes[2].acc));
  CHECK(m.classes[3].absent());
  CHECK(m.classes_in_mean == 3);
  CHECK(m.miou == Approx((3.0 / 4 + 1.0 / 3 + 0) / 3));
  CHECK(m.macc == Approx((3.0 / 4 + 1.0 / 2) / 2));
  CHECK(m.aacc == Approx(4.0 / 6));
  CHECK(m.pixels == 6);
  CHECK(m.ignored_pixels == 2);
}

TEST_CASE("metrics are sums over the data set, not means of pictures", "[metrics]") {
  ConfusionMatrix matrix(2, 255);
  matrix.add(bytes({0, 0, 0, 0}, {4}), bytes({0, 0, 0, 1}, {4}));
  matrix.add(bytes({1}, {1}), bytes({1}, {1}));
  CHECK(matrix.metrics({"a", "b"}).miou == Approx((3.0 / 4 + 1.0 / 2) / 2));
}

TEST_CASE("a large matrix counts every pixel once, for any thread count", "[metrics]") {
  const int64_t pixels = 300000;
  std::vector<uint8_t> labels(pixels), predictions(pixels);
  Random random(3);
  std::vector<int64_t> expected(9, 0);
  for (int64_t i = 0; i < pixels; ++i) {
    labels[i] = random.bernoulli(0.1) ? 255 : uint8_t(random.uniform_int(0, 3));
    predictions[i] = uint8_t(random.uniform_int(0, 3));
    if (labels[i] != 255) ++expected[labels[i] * 3 + predictions[i]];
  }
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    ConfusionMatrix matrix(3, 255);
    matrix.add(bytes(labels, {1, 500, 600}), bytes(predictions, {1, 500, 600}));
    for (int i = 0; i < 9; ++i) CHECK(matrix.count(i / 3, i % 3) == expected[i]);
  }
}

TEST_CASE("labels outside the classes are named with their pixel, and nothing is counted", "[metrics]") {
  ConfusionMatrix matrix(3, 255);
  CHECK_THROWS_WITH(matrix.add(bytes({0, 1, 2, 200}, {2, 2}), bytes({0, 0, 0, 0}, {2, 2}), "val/7.png"),
                    Catch::Contains("200") && Catch::Contains("val/7.png") && Catch::Contains("x 1, y 1"));
  CHECK(matrix.count(0, 0) == 0);
  CHECK_THROWS_AS(matrix.add(bytes({0}, {1}), bytes({3}, {1})), UsageError);
  CHECK_THROWS_AS(matrix.add(bytes({0, 0}, {2}), bytes({0}, {1})), ShapeError);
  CHECK_THROWS_AS(matrix.metrics({"a"}), UsageError);
  CHECK_THROWS_AS(ConfusionMatrix(0, 255), UsageError);
  ConfusionMatrix one(1, 255);
  one.add(bytes({0, 0}, {2}), bytes({0, 0}, {2}));
  CHECK(one.count(0, 0) == 2);
}

TEST_CASE("an empty matrix has absent means", "[metrics]") {
  const SegmentationMetrics m = ConfusionMatrix(2, 255).metrics({"a", "b"});
  CHECK(std::isnan(m.miou));
  CHECK(std::isnan(m.aacc));
  CHECK(m.classes_in_mean == 0);
  CHECK_THAT(to_table(m), Catch::Contains("absent"));
  CHECK(ConfusionMatrix(2, 255).count(1, 1) == 0);
  CHECK_THROWS_WITH(ConfusionMatrix(2, 255).count(100000, 1), Catch::Contains("no class 100000"));
  CHECK_THROWS_WITH(ConfusionMatrix(2, 255).count(0, -1), Catch::Contains("no class -1"));
}

TEST_CASE("a class that is there and was found nowhere has no precision, and is not absent", "[metrics]") {
  ConfusionMatrix matrix(3, 255);
  matrix.add(bytes({0, 1}, {2}), bytes({0, 0}, {2}));
  const std::string table = to_table(matrix.metrics({"a", "b", "c"}));
  CHECK_THAT(table, Catch::Contains("|   b   |  0.00  |  0.00  |  0.00  |     -     |   1    |\n"));
  CHECK_THAT(table, Catch::Contains("|   c   | absent | absent | absent |  absent   |   0    |\n"));
}

TEST_CASE("the table has mmsegmentation's layout", "[metrics]") {
  ConfusionMatrix matrix(3, 255);
  matrix.add(bytes({0, 0, 0, 1, 1}, {5}), bytes({0, 0, 1, 1, 1}, {5}));
  SegmentationMetrics metrics = matrix.metrics({"background", "sky", "car"});
  CHECK(to_table(metrics) ==
        "+------------+--------+--------+--------+-----------+--------+\n"
        "|   Class    |  IoU   |  Acc   |  Dice  | Precision | Pixels |\n"
        "+------------+--------+--------+--------+-----------+--------+\n"
        "| background | 66.67  | 66.67  | 80.00  |  100.00   |   3    |\n"
        "|    sky     | 66.67  | 100.00 | 80.00  |   66.67   |   2    |\n"
        "|    car     | absent | absent | absent |  absent   |   0    |\n"
        "+------------+--------+--------+--------+-----------+--------+\n"
        "+-------+-------+-------+-------+\n"
        "| aAcc  | mIoU  | mAcc  | mDice |\n"
        "+-------+-------+-------+-------+\n"
        "| 80.00 | 66.67 | 83.33 | 80.00 |\n"
        "+-------+-------+-------+-------+\n"
        "(2 of 3 classes in the mean)\n");
  metrics.cross_entropy = 0.51234;
  CHECK_THAT(to_table(metrics), Catch::Contains("| aAcc  | mIoU  | mAcc  | mDice | Cross-entropy |\n") &&
                                    Catch::Contains("| 80.00 | 66.67 | 83.33 | 80.00 |    0.5123     |\n"));
}

TEST_CASE("argmax takes the first of equal scores and shows NaN", "[metrics]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor scores = Tensor::from<double>({1, 3, 3, 0, 0, 0, -2, -1, -3, 5, nan, 9}, {1, 2, 2, 3});
  for (DType dtype : {DType::kFloat64, DType::kFloat32}) {
    CHECK(argmax_classes(scores.to(dtype)).to_vector<uint8_t>() == std::vector<uint8_t>{1, 0, 1, 1});
    CHECK(argmax_classes(scores.to(dtype)).shape() == Shape{1, 2, 2});
  }
  CHECK(argmax_classes(Tensor::zeros({2, 1})).to_vector<uint8_t>() == std::vector<uint8_t>{0, 0});
  CHECK(argmax_classes(Tensor::zeros({2, 256})).numel() == 2);
  CHECK_THROWS_AS(argmax_classes(Tensor::zeros({2, 257})), ShapeError);
}

TEST_CASE("confusions of up to 256 classes add up, ignored pixels too, and name the classes that occur", "[metrics]") {
  CHECK_NOTHROW(ConfusionMatrix(256, 255));
  CHECK_THROWS_WITH(ConfusionMatrix(257, 255), Catch::Contains("257 classes"));
  ConfusionMatrix one(4, 255), other(4, 255);
  CHECK_THROWS_WITH(one.count(4, 0), Catch::Contains("no class 4"));
  CHECK_THROWS_WITH(one.count(0, 4), Catch::Contains("no class 4"));
  one.add(bytes({0, 0, 255, 1}, {4}), bytes({0, 2, 0, 0}, {4}));
  other.add(bytes({255, 255, 0}, {3}), bytes({0, 0, 0}, {3}));
  other.add(bytes({}, {0}), bytes({}, {0}));
  one.add(other);
  const SegmentationMetrics sum = one.metrics({"a", "b", "c", "d"});
  CHECK(sum.pixels == 4);
  CHECK(sum.ignored_pixels == 3);
  CHECK(one.count(0, 0) == 2);
  CHECK_THROWS_WITH(one.add(ConfusionMatrix(3, 255)), Catch::Contains("confusions of 3 classes"));
  // Class 1 is labelled alone, class 2 predicted alone, class 3 neither.
  const std::vector<ClassCounts> counts = one.class_counts();
  REQUIRE(counts.size() == 3);
  CHECK((counts[1].index == 1 && counts[1].labelled == 1 && counts[1].predicted == 0));
  CHECK((counts[2].index == 2 && counts[2].labelled == 0 && counts[2].predicted == 1));
}
