// report.html of one evaluation: the parts of a run's page that are about what a network answers.
#include <fmt/format.h>

#include <cmath>

#include "core/file.h"
#include "core/words.h"
#include "study/report/fields.h"
#include "study/report/report.h"
#include "study/report/run_sections.h"
#include "study/report/ticks.h"
#include "training/evaluation_files.h"

namespace eq {

std::filesystem::path write_evaluation_report(const std::filesystem::path& folder) {
  using namespace report;
  const RunFiles run = read_evaluation(folder);
  const EvaluationRow& scores = run.evaluations[0];
  const Fields fields(*run.config, (folder / kEvaluationSummary).string());
  const std::vector<double> interval = fields.numbers("miou_interval");
  const std::string sure =
      interval.size() == 2 ? fmt::format(", {} to {} over pictures (95 %)", percent(interval[0], 2), percent(interval[1], 2)) : "";
  std::vector<Tile> headline = {{"mIoU", percent(scores.miou, 2), fmt::format("{} classes{}", scores.classes.size(), sure)},
                                {"aAcc", percent(scores.aacc, 2), "pixels that are right"},
                                {"mAcc", percent(scores.macc, 2), "mean over classes"},
                                {"mDice", percent(scores.mdice, 2), "F1, mean over classes"}};
  if (!std::isnan(scores.cross_entropy)) headline.push_back(cross_entropy_tile(scores));
  const std::string subtitle = fmt::format("{} on {} pictures of {}", fields.words("run"), whole_number(scores.pictures), fields.words("split"));
  const std::string html =
      page("Evaluation", text(subtitle), tiles(headline), {classes_section(run), confusion_section(run), pictures_section(run)});
  write_text_atomically(folder / "report.html", html);
  return folder / "report.html";
}

}  // namespace eq
