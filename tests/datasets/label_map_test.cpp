#include "datasets/label_map.h"

#include "core/errors.h"
#include "datasets/dataset.h"
#include "support.h"

using namespace eq;
using Catch::Contains;

namespace {

constexpr int kBad = LabelMapper::kOutOfRange;

// The table that a mapper should hold: kBad everywhere but where said.
struct Expected {
  std::vector<int> table = std::vector<int>(256, kBad);
  Expected& range(int first, int last, int target, int step) {
    for (int value = first; value <= last; ++value, target += step) table[size_t(value)] = target;
    return *this;
  }
};

void check_table(const LabelMapper& mapper, const Expected& expected) {
  for (int value = 0; value < 256; ++value) {
    INFO("value " << value);
    CHECK(mapper[value] == expected.table[size_t(value)]);
  }
}

}  // namespace

TEST_CASE("label map presets give the documented tables", "[label_map]") {
  check_table(LabelMapper({}, 11), Expected().range(0, 10, 0, 1).range(255, 255, 255, 0));
  check_table(LabelMapper({.preset = "identity"}, 255), Expected().range(0, 254, 0, 1).range(255, 255, 255, 0));
  check_table(LabelMapper({.preset = "minus_one_zero_ignored"}, 150),
              Expected().range(0, 0, 255, 0).range(1, 150, 0, 1).range(255, 255, 255, 0));
  Expected cityscapes;
  cityscapes.range(0, 33, 255, 0).range(255, 255, 255, 0);
  cityscapes.range(7, 8, 0, 1).range(11, 13, 2, 1).range(17, 17, 5, 0).range(19, 28, 6, 1).range(31, 33, 16, 1);
  check_table(LabelMapper({.preset = "cityscapes_ids"}, 19), cityscapes);
}

TEST_CASE("custom label maps say where other values go", "[label_map]") {
  const std::map<int, int> entries = {{0, 1}, {7, 0}, {9, LabelMapOptions::kIgnore}};
  check_table(LabelMapper({.entries = entries, .other = "error"}, 3),
              Expected().range(0, 0, 1, 0).range(7, 7, 0, 0).range(9, 9, 255, 0).range(255, 255, 255, 0));
  check_table(LabelMapper({.entries = entries, .other = "ignore"}, 3),
              Expected().range(0, 255, 255, 0).range(0, 0, 1, 0).range(7, 7, 0, 0));
  check_table(LabelMapper({.entries = entries, .other = "keep"}, 3),
              Expected().range(0, 0, 1, 0).range(1, 2, 1, 1).range(7, 7, 0, 0).range(9, 9, 255, 0).range(255, 255, 255, 0));
  // One class against the rest.
  check_table(LabelMapper({.entries = {{3, 1}}, .other = "0"}, 2),
              Expected().range(0, 254, 0, 0).range(3, 3, 1, 0).range(255, 255, 255, 0));
  CHECK_THROWS_WITH(LabelMapper({.entries = {{3, 1}}, .other = "2"}, 2), Contains("class 2") && Contains("0-1"));
  // Masks of 0 and 255: 255 may be a class.
  check_table(LabelMapper({.entries = {{0, 0}, {255, 1}}}, 2), Expected().range(0, 0, 0, 0).range(255, 255, 1, 0));
}

TEST_CASE("a label out of range is reported with file, pixel, value and the allowed values", "[label_map]") {
  const LabelMapper mapper({.entries = {{11, LabelMapOptions::kIgnore}}, .other = "keep"}, 11);
  CHECK(mapper.allowed() == "0-11, 255");
  LabelMap labels{2, 3, {0, 11, 10, 255, 200, 12}};
  LabelMap copy = labels;
  const auto bad = mapper.map(copy);
  REQUIRE(bad);
  CHECK(bad->x == 1);
  CHECK(bad->y == 1);
  CHECK(bad->value == 200);
  CHECK(copy.labels == std::vector<uint8_t>{0, 255, 10, 255, 255, 255});
  CHECK_THROWS_AS(mapper.map_or_throw(labels, "a.png"), DataError);
  labels.labels = {0, 11, 10, 255, 200, 12};
  CHECK_THROWS_WITH(mapper.map_or_throw(labels, "a.png"),
                    Contains("a.png") && Contains("label 200") && Contains("x 1, y 1") && Contains("0-11, 255"));
  LabelMap good{1, 2, {3, 11}};
  mapper.map_or_throw(good, "a.png");
  CHECK(good.labels == std::vector<uint8_t>{3, 255});
}

TEST_CASE("label maps that make no sense are refused", "[label_map]") {
  CHECK_THROWS_WITH(LabelMapper({.preset = "identty"}, 3), Contains("identty") && Contains("minus_one_zero_ignored"));
  CHECK_THROWS_WITH(LabelMapper({.preset = "cityscapes_ids"}, 5), Contains("19 classes"));
  CHECK_THROWS_AS(LabelMapper({}, 0), UsageError);
  CHECK_THROWS_AS(LabelMapper({}, 256), UsageError);
  CHECK_THROWS_WITH(LabelMapper({.entries = {{4, 3}}}, 3), Contains("class 3") && Contains("data.label_map"));
  CHECK_THROWS_AS(LabelMapper({.entries = {{256, 0}}}, 3), UsageError);
  CHECK_THROWS_WITH(LabelMapper({.entries = {{-1, 0}}}, 3), Contains("not -1"));
  CHECK_THROWS_AS(LabelMapper({.entries = {{4, -1}}}, 3), UsageError);
  CHECK_THROWS_AS(LabelMapper({.preset = "identity", .entries = {{4, 1}}}, 3), UsageError);
  CHECK_THROWS_WITH(LabelMapper({.entries = {{4, 1}}, .other = "drop"}, 3), Contains("drop"));
}

TEST_CASE("a label map is followed backwards where each class has one value", "[label_map]") {
  CHECK(LabelMapper({}, 3).values() == std::vector<uint8_t>{0, 1, 2});
  CHECK(LabelMapper({.preset = "minus_one_zero_ignored"}, 150).values()[149] == 150);
  CHECK(LabelMapper({.preset = "cityscapes_ids"}, 19).values() ==
        std::vector<uint8_t>{7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33});
  CHECK(LabelMapper({.entries = {{0, 0}, {255, 1}}}, 2).values() == std::vector<uint8_t>{0, 255});
  CHECK_THROWS_WITH(LabelMapper({.entries = {{4, 0}, {5, 0}}}, 1).values(), Contains("more than one value") && Contains("class 0"));
  CHECK_THROWS_WITH(LabelMapper({.entries = {{4, 0}}}, 2).values(), Contains("no value") && Contains("class 1"));
  CHECK(label_map_of({.type = "ade20k"}).preset == "minus_one_zero_ignored");
  CHECK(label_map_of({.type = "cityscapes"}).preset == "cityscapes_ids");
  CHECK(label_map_of({.type = "camvid"}).preset == "identity");
  DataOptions own{.type = "ade20k"};
  own.label_map.entries = {{9, 0}};
  CHECK(label_map_of(own).entries.size() == 1);
}

TEST_CASE("255 stays the ignored value, however many classes there are", "[label_map]") {
  const LabelMapper shifted({.preset = "minus_one_zero_ignored"}, 255), same({}, 255);
  CHECK(shifted[254] == 253);
  CHECK(shifted[255] == kIgnoreIndex);
  CHECK(same[254] == 254);
  CHECK(same[255] == kIgnoreIndex);
  CHECK(same.allowed() == "0-255");
}
