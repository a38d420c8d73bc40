// equiscale report FOLDER.
#include <fmt/format.h>

#include "app/common.h"
#include "study/report/report.h"

namespace eq::app {

void add_report(CLI::App& app) {
  CLI::App* command =
      add_command(app, "report",
                  "Write report.html, a page with everything a run or a study has found; runs and studies write it themselves at their end",
                  "equiscale report runs/camvid");
  auto folder = std::make_shared<std::string>();
  command->add_option("FOLDER", *folder, "A run's or a study's folder")->required();
  command->callback([folder] { fmt::print("{}\n", write_report(*folder).string()); });
}

}  // namespace eq::app
