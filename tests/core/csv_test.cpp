#include "core/csv.h"

#include "core/errors.h"
#include "support.h"

using namespace eq;

TEST_CASE("fields of a row come back, whatever they hold", "[csv]") {
  for (const std::vector<std::string>& fields :
       {std::vector<std::string>{"plain", "", "1.5"}, {"a,b", "say \"so\"", "\""}, {"caf\xc3\xa9", "\"\",\""}, {""}}) {
    CHECK(csv_fields(csv_line(fields), "") == fields);
  }
  CHECK(csv_line({"a\nb", "caf\xc3\xa9"}) == "a b,caf\xc3\xa9");  // one line, and letters beyond ASCII as they are
  CHECK(csv_fields("a,b\r", "") == std::vector<std::string>{"a", "b"});
  CHECK(csv_fields("a\rb", "") == std::vector<std::string>{"a\rb"});
  CHECK_THROWS_WITH(csv_fields("a,\"b", "table.csv, line 3"),
                    Catch::Contains("a quote is not closed") && Catch::Contains("table.csv, line 3"));
}
