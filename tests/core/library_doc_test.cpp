// The C++ of docs/library.md and README.md is lines of programs that the test `install` builds and runs.
#include <algorithm>
#include <sstream>

#include "support.h"

namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

// Without indentation and empty lines.
Lines lines_of(const fs::path& file) {
  Lines lines;
  std::istringstream stream(eq::test::read_file(file));
  for (std::string line; std::getline(stream, line);) {
    const size_t begin = line.find_first_not_of(' ');
    if (begin != std::string::npos) lines.push_back(line.substr(begin));
  }
  return lines;
}

// The blocks ```cpp ... ``` of a page.
std::vector<Lines> snippets_of(const fs::path& page) {
  std::vector<Lines> snippets;
  bool inside = false;
  for (const std::string& line : lines_of(page)) {
    if (line.starts_with("```")) {
      inside = line == "```cpp";
      if (inside) snippets.emplace_back();
    } else if (inside) {
      snippets.back().push_back(line);
    }
  }
  return snippets;
}

// Its includes are the program's, its other lines follow one another there as they do here, but where "// ..." leaves some out.
bool occurs(const Lines& snippet, const Lines& program) {
  auto from = program.begin();
  Lines run;
  const auto find_run = [&] {
    const auto found = std::search(from, program.end(), run.begin(), run.end());
    if (found == program.end() && !run.empty()) return false;
    from = found + std::ptrdiff_t(run.size());
    run.clear();
    return true;
  };
  for (const std::string& line : snippet) {
    if (line.starts_with("#include")) {
      if (std::find(program.begin(), program.end(), line) == program.end()) return false;
    } else if (line == "// ...") {
      if (!find_run()) return false;
    } else {
      run.push_back(line);
    }
  }
  return find_run();
}

}  // namespace

TEST_CASE("C++ on the pages is in programs that are run", "[docs]") {
  const fs::path root = EQ_SOURCE_DIR;
  std::vector<Lines> programs;
  for (const auto& entry : fs::directory_iterator(root / "tests" / "library")) programs.push_back(lines_of(entry.path()));
  int count = 0;
  for (const char* page : {"README.md", "docs/library.md"}) {
    for (const Lines& snippet : snippets_of(root / page)) {
      std::string text;
      for (const std::string& line : snippet) text += line + "\n";
      INFO(page << ":\n" << text);
      CHECK(std::any_of(programs.begin(), programs.end(), [&](const Lines& program) { return occurs(snippet, program); }));
      ++count;
    }
  }
  CHECK(count > 6);
}
