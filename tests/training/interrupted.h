#pragma once
// Runs that say nothing, and runs that end as a power cut would end them.

#include <filesystem>

#include "training/trainer.h"

namespace eq::test {

inline TrainRequest quiet(const std::filesystem::path& out, bool resume = false) {
  TrainRequest request;
  request.out = out;
  request.resume = resume;
  request.log = nullptr;
  return request;
}

// Nothing is saved, nothing is cleaned up.
struct Crash {};
inline TrainRequest crash_after(const std::filesystem::path& out, int64_t iterations, bool resume = false) {
  TrainRequest request = quiet(out, resume);
  request.on_step = [iterations](const StepReport& report) {
    if (report.iteration + 1 == iterations) throw Crash();
  };
  return request;
}

}  // namespace eq::test
