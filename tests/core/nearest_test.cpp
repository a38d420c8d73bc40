#include "core/nearest.h"

#include "core/errors.h"
#include "support.h"

using namespace eq;

TEST_CASE("the nearest name is the one with the fewest slips of the hand", "[nearest]") {
  CHECK(nearest_name("expilcit", {"implicit", "explicit"}) == "explicit");  // two letters exchanged are one slip
  CHECK(nearest_name("seed", {"seeds", "feed"}) == "seeds");                // of two alike the first
  CHECK(nearest_name("ab", {"ba", "ad"}) == "ba");
  CHECK(nearest_name("lr", {"optimizer"}).empty());
  CHECK(nearest_name("on", {"off"}) == "off");  // short words may have two slips, longer ones half of their letters
  CHECK(nearest_name("abcdefgh", {"abcdxxxx"}) == "abcdxxxx");
  CHECK(nearest_name("abcdefgh", {"abcxxxxx"}).empty());
  CHECK(nearest_name(std::string(65, 'a'), {std::string(64, 'a')}).empty());  // whose comparison would take long
  CHECK(known_names_hint("xyz", {"off", "on"}) == "known: off, on");
  CHECK_THROWS_WITH(check_choice("sgdm", {"sgd", "adamw"}, "optimizer.type"),
                    Catch::Contains("optimizer.type") && Catch::Contains("did you mean 'sgd'?"));
}
