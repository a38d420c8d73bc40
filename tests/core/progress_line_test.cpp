#include "core/progress_line.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "support.h"

using namespace eq;

TEST_CASE("a line of progress is for terminals, and leaves nothing behind", "[progress]") {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(master >= 0);
  REQUIRE(grantpt(master) == 0);
  REQUIRE(unlockpt(master) == 0);
  std::FILE* terminal = fopen(ptsname(master), "w");
  REQUIRE(terminal != nullptr);
  ProgressLine(terminal).count("beginning", 0, 4);  // how long nobody knows
  {
    ProgressLine line(terminal);
    line.count("evaluating", 1, 4);
    line.count("evaluating", 2, 4);  // too soon
  }
  const std::string expected = "\r\033[Kbeginning: 0/4\r\033[K\r\033[Kevaluating: 1/4, about 0:00:00 left\r\033[K";
  std::string text;
  for (char bytes[256]; text.size() < expected.size();) {
    const ssize_t count = read(master, bytes, sizeof(bytes));
    REQUIRE(count > 0);
    text.append(bytes, size_t(count));
  }
  CHECK(text == expected);
  fclose(terminal);
  close(master);

  const test::TemporaryFolder folder;
  std::FILE* file = fopen((folder.path() / "log").c_str(), "w");
  ProgressLine(file).count("evaluating", 1, 4);
  fclose(file);
  CHECK(test::read_file(folder.path() / "log").empty());
  ProgressLine(nullptr).count("evaluating", 1, 4);
}

TEST_CASE("durations are hours, minutes and seconds", "[progress]") {
  CHECK(human_duration(3725.4) == "1:02:05");
  CHECK(human_duration(-1) == "0:00:00");
}
