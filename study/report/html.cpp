#include "study/report/html.h"

#include <algorithm>
#include <cmath>

#include "study/report/ticks.h"

namespace eq::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Length of the UTF-8 sequence that starts at `at`; 0 when it is not one (cut off, overlong, a surrogate, beyond U+10FFFF).
size_t sequence_length(std::string_view s, size_t at) {
  const auto byte = [&](size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const auto follows = [&](size_t i, unsigned low, unsigned high) { return byte(i) >= low && byte(i) <= high; };
  const unsigned first = byte(at);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(at + 1, 0x80, 0xBF) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned low = first == 0xE0 ? 0xA0 : 0x80, high = first == 0xED ? 0x9F : 0xBF;
    return follows(at + 1, low, high) && follows(at + 2, 0x80, 0xBF) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned low = first == 0xF0 ? 0x90 : 0x80, high = first == 0xF4 ? 0x8F : 0xBF;
    return follows(at + 1, low, high) && follows(at + 2, 0x80, 0xBF) && follows(at + 3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

bool closes_at_once(const std::string& tag) {
  constexpr const char* kTags[] = {"meta", "img", "path", "rect", "line", "circle"};
  return std::find(std::begin(kTags), std::end(kTags), tag) != std::end(kTags);
}

}  // namespace

Markup Markup::literal(std::string html) {
  Markup markup;
  markup.html_ = std::move(html);
  return markup;
}

Markup& Markup::operator+=(const Markup& more) {
  html_ += more.html_;
  return *this;
}

Markup operator+(Markup a, const Markup& b) {
  a += b;
  return a;
}

std::string escaped(std::string_view plain) {
  std::string out;
  out.reserve(plain.size());
  for (size_t at = 0; at < plain.size();) {
    const size_t length = sequence_length(plain, at);
    const char c = plain[at];
    const bool control = length == 1 && (c == 127 || (c >= 0 && c < 32 && c != '\n' && c != '\t'));
    if (length == 0 || control)
      out += kReplacement;
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += plain.substr(at, length);
    at += std::max<size_t>(1, length);
  }
  return out;
}

Markup text(std::string_view plain) { return Markup::literal(escaped(plain)); }

Markup element(const std::string& tag, const Attributes& attributes, const Markup& content) {
  std::string html = "<";
  html += tag;
  for (const auto& [name, value] : attributes) html += " " + name + "=\"" + escaped(value) + "\"";
  if (content.empty() && closes_at_once(tag)) return Markup::literal(html + "/>");
  return Markup::literal(html + ">" + content.html() + "</" + tag + ">");
}

Markup element(const std::string& tag, const Markup& content) { return element(tag, {}, content); }

Cell cell(double value) { return {text(short_number(value))}; }
Cell cell(const std::string& words) { return {text(words), false}; }

Markup table(const std::string& caption, const std::vector<std::string>& header, const std::vector<std::vector<Cell>>& rows) {
  const auto said_nothing = [&](size_t column) {
    return column > 0 && std::all_of(rows.begin(), rows.end(),
                                     [&](const auto& row) { return column >= row.size() || row[column].content.html() == kDash; });
  };
  const auto kind = [](const Cell& cell) {
    if (cell.numeric) return Attributes{{"class", "number"}};
    return cell.content.html().size() > 48 ? Attributes{{"class", "words"}} : Attributes{};
  };
  std::vector<bool> left_out;
  for (size_t i = 0; i < header.size(); ++i) left_out.push_back(!rows.empty() && said_nothing(i));
  Markup head, body;
  for (size_t i = 0; i < header.size(); ++i) {
    if (left_out[i]) continue;
    Attributes attributes =
        rows.empty() || i >= rows.front().size() || !rows.front()[i].numeric ? Attributes{} : Attributes{{"class", "number"}};
    attributes.emplace_back("scope", "col");
    head += element("th", attributes, text(header[i]));
  }
  for (const auto& row : rows) {
    Markup line;
    for (size_t i = 0; i < std::min(row.size(), header.size()); ++i) {
      if (left_out[i]) continue;
      Attributes attributes = kind(row[i]);
      if (i == 0) attributes.emplace_back("scope", "row");
      line += element(i == 0 ? "th" : "td", attributes, row[i].content);
    }
    body += element("tr", line);
    body += Markup::literal("\n");
  }
  const Markup above =
      caption.empty() ? Markup() : element("p", {{"class", "caption"}}, text(caption));  // outside, where it wraps instead of scrolling
  const Markup inner = element("thead", element("tr", head)) + element("tbody", body);
  const Attributes region = {
      {"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", caption.empty() ? "table" : caption}};
  return element("div", {{"class", "table"}}, above + element("div", region, element("table", inner)));
}

Markup tiles(const std::vector<Tile>& all) {
  Markup inner;
  for (const Tile& tile : all) {
    const Markup note = tile.note.empty() ? Markup() : element("small", text(tile.note));
    inner += element("div", element("dt", text(tile.name)) + element("dd", text(tile.value) + note));
  }
  return element("dl", {{"class", "tiles"}}, inner);
}

Markup gallery(const std::vector<Markup>& figures) {
  Markup all;
  for (const Markup& figure : figures) all += figure;
  return element("div", {{"class", "gallery"}}, all);
}

Markup missing(const std::string& what, const std::string& remedy) {
  return element("p", {{"class", "missing"}}, element("strong", text("Not here: ")) + text(what + (remedy.empty() ? "" : " " + remedy)));
}

Markup command_line(const std::string& command) {
  constexpr size_t kLongest = 36;  // longer words may be broken after all, or a phone would not hold them
  Markup words;
  for (size_t begin = 0; begin < command.size();) {
    const size_t end = std::min(command.find(' ', begin), command.size());
    const Markup word = text(command.substr(begin, end - begin));
    words += text(begin > 0 ? " " : "") + (end - begin <= kLongest ? element("span", word) : word);
    begin = end + 1;
  }
  return element("code", words);
}

Markup paragraph(const std::string& words) { return element("p", text(words)); }

}  // namespace eq::report
