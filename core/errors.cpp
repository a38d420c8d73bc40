#include "core/errors.h"

namespace eq {
namespace {

std::string joined(const std::string& what, const std::string& where, const std::string& try_this) {
  std::string text = what;
  if (!where.empty()) text += "\n  where: " + where;
  if (!try_this.empty()) text += "\n  try:   " + try_this;
  return text;
}

}  // namespace

Error::Error(std::string what_happened, std::string where, std::string try_this)
    : std::runtime_error(joined(what_happened, where, try_this)),
      what_happened_(std::move(what_happened)),
      where_(std::move(where)),
      try_this_(std::move(try_this)) {}

}  // namespace eq
