#pragma once
// One line on a terminal that says how far a long task is, each text over the last one; nothing into files and pipes.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace eq {

std::string human_duration(double seconds);  // "0:02:11"

class ProgressLine {
 public:
  explicit ProgressLine(std::FILE* out = stderr);  // null: nothing
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;

  // Twice a second at most: whether it is time for another text, which show() then writes.
  bool due();
  void show(const std::string& text);
  void count(const std::string& task, int64_t done, int64_t all);  // "evaluating: 12/200, about 0:00:31 left", if due
  void clear();  // before other output, so that no half of a line stays

 private:
  using Clock = std::chrono::steady_clock;
  std::FILE* out_;  // null where there is no terminal
  bool shown_ = false;
  Clock::time_point begin_ = Clock::now(), last_;
};

}  // namespace eq
