#pragma once
// For destructors that put back what was. Where that fails, so did something before, a kernel say, whose error is on its way or comes again
// with the next call; what else there is to put back still is.

#include <exception>

namespace eq {

template <class Restore>
void put_back(const Restore& restore) noexcept {
  try {
    restore();
  } catch (const std::exception&) {
  }
}

}  // namespace eq
