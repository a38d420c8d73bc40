#include "core/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace eq {

std::string human_duration(double seconds) {
  const int64_t whole = int64_t(std::llround(std::clamp(seconds, 0.0, 1e9)));
  return fmt::format("{}:{:02d}:{:02d}", whole / 3600, whole / 60 % 60, whole % 60);
}

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
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    text += ", about " + human_duration(seconds / double(done) * double(all - done)) + " left";
  }
  show(text);
}

void ProgressLine::clear() {
  if (shown_) std::fputs("\r\033[K", out_), std::fflush(out_);
  shown_ = false;
}

}  // namespace eq
