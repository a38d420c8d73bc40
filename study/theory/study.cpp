#include "study/theory/study.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/json.h"
#include "study/study_head.h"
#include "study/theory/lab.h"

namespace eq {

int64_t TheoryReport::failed() const {
  return std::count_if(checks.begin(), checks.end(), [](const TheoryCheck& check) { return !check.pass; });
}

TheoryReport run_theory_study(const TheoryRequest& request) {
  if (request.samples < (int64_t{1} << 16) || request.samples > (int64_t{1} << 30)) {
    throw UsageError(std::to_string(request.samples) + " samples are out of range", "--samples", "use 65536 to 1073741824");
  }
  const auto start = std::chrono::steady_clock::now();
  Lab lab(request);
  for (const auto group :
       {check_white_noise, check_phases, check_correlated, check_single_pictures, check_rectified, check_pooled, check_additive,
        check_weight_gradients, check_depthwise_gradients, check_input_gradients, check_learning, check_nearest}) {
    group(lab);
  }
  lab.report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::move(lab.report);
}

std::string theory_study_json(const TheoryReport& report, const TheoryRequest& request, const std::string& command) {
  using nlohmann::ordered_json;
  ordered_json checks = ordered_json::array(), points = ordered_json::array(), learning = ordered_json::array();
  for (const TheoryCheck& c : report.checks) {
    checks.push_back({{"name", c.name}, {"setting", c.setting}, {"predicted", c.predicted}, {"measured", c.measured},
                      {"standard_error", c.standard_error}, {"z", c.z}, {"bound", c.bound}, {"at_most", c.at_most}, {"pass", c.pass}});
  }
  for (const WhiteNoisePoint& p : report.white_noise) {
    points.push_back({{"ratio", p.ratio}, {"variance", p.variance}, {"before", p.before}, {"after", p.after}});
  }
  for (const LearningCurve& c : report.learning) {
    ordered_json curve = {{"optimizer", c.optimizer}, {"mode", c.mode}, {"deviation", c.deviation}, {"predicted_steps", c.predicted_steps},
                          {"measured_steps", c.measured_steps}};
    if (!c.steps.empty()) curve.update({{"steps", c.steps}, {"predicted", c.predicted}, {"measured", c.measured}});
    learning.push_back(std::move(curve));
  }
  const int64_t failed = report.failed();
  ordered_json study = study_head("theory", command, report.seconds);
  study.update({{"seed", request.seed},
                {"samples", request.samples},
                {"full", request.full},
                {"passed", int64_t(report.checks.size()) - failed},
                {"failed", failed},
                {"checks", checks},
                {"white_noise", points},
                {"learning", learning}});
  return file_text(study);
}

std::string learning_table(const TheoryReport& report) {
  std::string header, rows, row;
  for (const LearningCurve& c : report.learning) {
    const std::string name = fmt::format("\n  {:<7}{:<10}", c.optimizer, c.mode);
    if (name != row) rows += name;
    row = name;
    if (rows.starts_with(name)) header += fmt::format("{:>14}", fmt::format("level {:.3f}", c.deviation));  // the first row
    rows += fmt::format("{:>14}", fmt::format("{} / {}", c.predicted_steps, c.measured_steps));
  }
  return fmt::format("steps to nine tenths of what each level has to learn, predicted / measured; levels by their deviation\n{:19}{}{}\n",
                     "", header, rows);
}

}  // namespace eq
