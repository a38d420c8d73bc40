#include "core/errors.h"

#include <algorithm>

namespace eq {
namespace {

std::string joined(const std::string& what, const std::string& where, const std::string& try_this) {
  std::string text = what;
  if (!where.empty()) text += "\n  where: " + where;
  if (!try_this.empty()) text += "\n  try:   " + try_this;
  return text;
}

std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text;
}

}  // namespace

Error::Error(std::string what_happened, std::string where, std::string try_this)
    : std::runtime_error(joined(one_line(what_happened), one_line(where), one_line(try_this))),
      what_happened_(one_line(std::move(what_happened))),
      where_(one_line(std::move(where))),
      try_this_(one_line(std::move(try_this))) {}

}  // namespace eq
