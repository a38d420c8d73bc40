#include "core/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

namespace eq {

ProgressLine::ProgressLine(std::FILE* out) : out_(out != nullptr && isatty(fileno(out)) == 1 ? out : nullptr) {}

bool ProgressLine::due() {
  if (out_ == nullptr) return false;
  const Clock::time_point now = Clock::now();
  if (now - last_ < std::chrono::milliseconds(500)) return false;
  last_ = now;
  return true;
}

void ProgressLine::show(const std::string& text) {
  if (out_ == nullptr) return;
  std::fputs(("\r\033[K" + text).c_str(), out_);
  std::fflush(out_);
  shown_ = true;
}

void ProgressLine::count(const std::string& task, int64_t done, int64_t all) {
  if (!due()) return;
  std::string text = fmt::format("{}: {}/{}", task, done, all);
  if (done > 0) {
    const int64_t left = int64_t(std::chrono::duration<double>(Clock::now() - begin_).count() / double(done) * double(all - done) + 0.5);
    text += fmt::format(", about {}:{:02d}:{:02d} left", left / 3600, left / 60 % 60, left % 60);
  }
  show(text);
}

void ProgressLine::clear() {
  if (shown_) std::fputs("\r\033[K", out_), std::fflush(out_);
  shown_ = false;
}

}  // namespace eq
