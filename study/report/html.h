#pragma once
// HTML and SVG as text in which nothing can stay unescaped: a Markup is made of plain text, of elements, or of this folder's own literals.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace eq::report {

class Markup {
 public:
  Markup() = default;
  static Markup literal(std::string html);  // text of this program, never of a file
  Markup& operator+=(const Markup& more);
  const std::string& html() const { return html_; }
  bool empty() const { return html_.empty(); }

 private:
  std::string html_;
};

Markup operator+(Markup a, const Markup& b);

using Attributes = std::vector<std::pair<std::string, std::string>>;

// & < > " ' as entities. Bytes that are not UTF-8, and control characters that no page may hold, become U+FFFD.
std::string escaped(std::string_view plain);
Markup text(std::string_view plain);
// <tag name="value">content</tag>; without content, elements that cannot have any are closed at once. Names are literals.
Markup element(const std::string& tag, const Attributes& attributes, const Markup& content = {});
Markup element(const std::string& tag, const Markup& content);

struct Cell {
  Markup content;
  bool numeric = true;  // aligned to the right
};
// A table that scrolls by itself where the page is too narrow. The first column is a heading of its row. Columns without a value are left
// out.
Markup table(const std::string& caption, const std::vector<std::string>& header, const std::vector<std::vector<Cell>>& rows);
Cell cell(double value);  // three significant digits; a dash for NaN
Cell cell(const std::string& words);

// A part of the page with a heading that links can reach.
struct Section {
  std::string id, title;
  Markup body;
};
struct Tile {
  std::string name, value, note;
};
Markup tiles(const std::vector<Tile>& all);  // the numbers a reader looks for first
// Figures in as many columns as fit.
Markup gallery(const std::vector<Markup>& figures);
// Says plainly what is missing and what would make it; stands where a figure would.
Markup missing(const std::string& what, const std::string& remedy);
Markup paragraph(const std::string& words);
Markup command_line(const std::string& command);  // broken between its words only

// The whole document: no script, nothing from elsewhere, and a policy in it that forbids both.
std::string page(const std::string& title, const Markup& subtitle, const Markup& headline, const std::vector<Section>& sections);

}  // namespace eq::report
