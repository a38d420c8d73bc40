// Tables of a run that grow row by row, and what is kept of them when a run goes on.
#include "training/row_files.h"

#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

struct Rows : TemporaryFolder {
  Rows() {
    const RowFiles rows(path(), "metrics", "iteration,loss", -1);
    for (const int iteration : {2, 4, 6}) {
      rows.append("{\"iteration\":" + std::to_string(iteration) + ",\"loss\":1}", {std::to_string(iteration) + ",1"});
    }
  }
  std::string json() const { return read_file(path() / "metrics.jsonl"); }
  std::string table() const { return read_file(path() / "metrics.csv"); }
};

std::string row(int iteration) { return "{\"iteration\":" + std::to_string(iteration) + ",\"loss\":1}\n"; }

}  // namespace

TEST_CASE("a resumed run keeps the rows up to its iteration, and none that a kill cut off", "[rows]") {
  const Rows rows;
  CHECK(last_row(rows.path(), "metrics") == 6);
  const auto resume = [&](int64_t from) { RowFiles(rows.path(), "metrics", "iteration,loss", from); };
  resume(6);
  CHECK(rows.json() == row(2) + row(4) + row(6));
  CHECK(rows.table() == "iteration,loss\n2,1\n4,1\n6,1\n");
  // Cut off, no number, and a number that fits no integer.
  write_file(rows.path() / "metrics.jsonl", rows.json() + "no row\n{\"loss\":1}\n{\"iteration\":4");
  write_file(rows.path() / "metrics.csv", rows.table() + "no row\n99999999999999999999,1\n4,2");
  resume(6);
  CHECK(rows.json() == row(2) + row(4) + row(6));
  CHECK(rows.table() == "iteration,loss\n2,1\n4,1\n6,1\n");
  resume(4);
  CHECK(rows.json() == row(2) + row(4));
  CHECK(rows.table() == "iteration,loss\n2,1\n4,1\n");
  resume(-1);
  CHECK(rows.json().empty());
  CHECK(rows.table() == "iteration,loss\n");
  CHECK(last_row(rows.path(), "metrics") == 0);
  CHECK(last_row(rows.path(), "none") == 0);
}

TEST_CASE("a table that lost its first line gets it back, with the rows behind it", "[rows]") {
  const Rows rows;
  for (const char* left : {"", "2,1\n4,1\n"}) {
    write_file(rows.path() / "metrics.csv", left);
    RowFiles(rows.path(), "metrics", "iteration,loss", 6);
    CHECK(rows.table() == std::string("iteration,loss\n") + left);
  }
}

TEST_CASE("rows are found and removed by how they begin, and the last one is that of the largest iteration", "[rows]") {
  const Rows rows;
  const RowFiles files(rows.path(), "metrics", "iteration,loss", 6);
  CHECK(files.has("{\"iteration\":4,"));
  CHECK_FALSE(files.has("\"loss\":1"));  // within a row
  CHECK_FALSE(files.has("{\"iteration\":8,"));
  files.remove("{\"iteration\":8,", "2,");  // there is none: the table stays
  CHECK(rows.table() == "iteration,loss\n2,1\n4,1\n6,1\n");
  files.remove("{\"iteration\":6,", "6,");
  CHECK(rows.json() == row(2) + row(4));
  CHECK(rows.table() == "iteration,loss\n2,1\n4,1\n");
  files.append("{\"iteration\":1,\"loss\":1}", {"1,1"});
  CHECK(last_row(rows.path(), "metrics") == 4);
  CHECK(csv_number(0.1234567) == "0.123457");
  CHECK(csv_number(1 / 0.0).empty());
}

TEST_CASE("rows from when a table had fewer columns are as long as the others", "[rows]") {
  const Rows rows;
  write_file(rows.path() / "metrics.csv", "iteration,loss\n2,\"a,b\"\n4,\"1\n6,3\n");
  const RowFiles resumed(rows.path(), "metrics", "iteration,loss,miou,macc", 4);
  resumed.append("{\"iteration\":6}", {"6,1,2,3"});
  CHECK(rows.table() == "iteration,loss,miou,macc\n2,\"a,b\",,\n4,\"1\n6,1,2,3\n");
}
