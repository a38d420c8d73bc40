#include "core/shape.h"

#include "core/errors.h"
#include "support.h"

using namespace eq;

TEST_CASE("a shape counts and indexes", "[shape]") {
  const Shape s{2, 3, 4};
  CHECK(s.rank() == 3);
  CHECK(s.numel() == 24);
  CHECK(s[2] == 4);
  CHECK(s.at(0) == 2);
  CHECK(s.at(-1) == 4);
  CHECK(s.at(-3) == 2);
  CHECK(s.normalized(-2) == 1);
  CHECK_THROWS_WITH(Shape{}.normalized(0), Catch::Contains("a single value has no axes"));
  CHECK(s.product(1, 3) == 12);
  CHECK(s.product(2, 2) == 1);
  CHECK(to_string(s) == "[2, 3, 4]");
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{}.rank() == 0);
  CHECK(to_string(Shape{}) == "[]");
  CHECK(Shape{3, 0}.numel() == 0);
  CHECK(std::vector<int64_t>(s.begin(), s.end()) == std::vector<int64_t>{2, 3, 4});
}

TEST_CASE("shapes are equal when rank and extents are", "[shape]") {
  CHECK(Shape{2, 3} == Shape(std::vector<int64_t>{2, 3}));
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{2} == Shape{2, 1});
  CHECK_FALSE(Shape{} == Shape{1});
  Shape s{2, 3};
  s.set(1, 5);
  CHECK(s == Shape{2, 5});
}

TEST_CASE("shapes refuse what cannot be", "[shape]") {
  CHECK_THROWS_AS((Shape{1, -1}), ShapeError);
  CHECK_THROWS_AS(Shape(std::vector<int64_t>(9, 1)), ShapeError);
  CHECK(Shape(std::vector<int64_t>(8, 1)).rank() == 8);
  CHECK_THROWS_AS((Shape{2, 3}).at(2), ShapeError);
  CHECK_THROWS_AS((Shape{2, 3}).at(-3), ShapeError);
  CHECK_THROWS_AS(Shape{}.at(0), ShapeError);
  CHECK_THROWS_WITH((Shape{2, 3}).at(7), Catch::Contains("7") && Catch::Contains("[2, 3]"));
}

TEST_CASE("element counts are checked in 64 bits", "[shape]") {
  const int64_t big = int64_t{1} << 31;
  CHECK((Shape{big, big}).numel() == int64_t{1} << 62);
  CHECK_THROWS_AS((Shape{big, big, 2}).numel(), ShapeError);
  CHECK_THROWS_AS((Shape{big, big, big, big}).numel(), ShapeError);
  CHECK_THROWS_AS((Shape{INT64_MAX}).numel(), ShapeError);
  CHECK((Shape{big, big, big, 0}).numel() == 0);
}

TEST_CASE("broadcasting follows NumPy", "[shape]") {
  const struct {
    Shape a, b, result;
  } good[] = {
      {{}, {}, {}},
      {{3}, {}, {3}},
      {{2, 3}, {3}, {2, 3}},
      {{2, 1}, {1, 3}, {2, 3}},
      {{4, 1, 5}, {3, 1}, {4, 3, 5}},
      {{0, 3}, {1, 3}, {0, 3}},
      {{1}, {0}, {0}},
  };
  for (const auto& c : good) {
    CHECK(broadcast_shapes(c.a, c.b, "op") == c.result);
    CHECK(broadcast_shapes(c.b, c.a, "op") == c.result);
  }
  CHECK_THROWS_AS(broadcast_shapes({2}, {3}, "op"), ShapeError);
  CHECK_THROWS_AS(broadcast_shapes({0}, {2}, "op"), ShapeError);
  CHECK_THROWS_WITH(broadcast_shapes({2, 3}, {2, 1, 4}, "mul"),
                    Catch::Contains("mul") && Catch::Contains("[2, 3]") && Catch::Contains("[2, 1, 4]"));
}
