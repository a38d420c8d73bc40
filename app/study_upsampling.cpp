// equiscale study upsampling: what the formulas say of sizes of one's own.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <memory>

#include "app/common.h"
#include "core/errors.h"
#include "datasets/transforms.h"
#include "study/theory/closed_forms.h"

namespace eq::app {
namespace {

constexpr const char* kTrySizes = "write rows and columns before and behind a colon: 16x32:64x128, or 16:64 for squares";

struct Resizing {
  Size from, to;
};

// "16" and "16x32".
Size parse_size(const std::string& text, const std::string& whole) {
  std::array<int64_t, 2> sides{};
  const size_t cross = text.find('x');
  const std::string parts[] = {text.substr(0, cross), cross == std::string::npos ? text : text.substr(cross + 1)};
  for (size_t i = 0; i < 2; ++i) {
    const auto [end, error] = std::from_chars(parts[i].data(), parts[i].data() + parts[i].size(), sides[i]);
    if (error == std::errc() && end == parts[i].data() + parts[i].size() && sides[i] >= 1) continue;
    throw UsageError("these are no two sizes: " + whole, "study upsampling", kTrySizes);
  }
  return {sides[0], sides[1]};
}

Resizing parse_resizing(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) throw UsageError("these are no two sizes: " + text, "study upsampling", kTrySizes);
  return {parse_size(text.substr(0, colon), text), parse_size(text.substr(colon + 1), text)};
}

nlohmann::json factors_of(const Resizing& resizing, bool align_corners, double correlation) {
  const auto& [from, to] = resizing;
  const double rows = bilinear_variance_factor(from.height, to.height, align_corners, correlation),
               columns = bilinear_variance_factor(from.width, to.width, align_corners, correlation),
               gradient = adjoint_second_moment(from.height, to.height, align_corners) *
                          adjoint_second_moment(from.width, to.width, align_corners);
  return {{"from", {from.height, from.width}}, {"to", {to.height, to.width}},      {"variance_kept", rows * columns},
          {"variance_kept_rows", rows},        {"variance_kept_columns", columns}, {"deviation_kept", std::sqrt(rows * columns)},
          {"gradient_second_moment", gradient}};
}

}  // namespace

void add_study_upsampling(CLI::App& study) {
  CLI::App* command =
      add_command(study, "upsampling",
                  "What bilinear resizing between sizes of yours leaves of the variance, and of the gradient's, by the closed "
                  "forms that study theory measures",
                  "equiscale study upsampling 16:64 16x32:64x128 --correlation 0.5");
  struct Options {
    std::vector<std::string> sizes;
    bool align_corners = false, json = false;
    double correlation = 0;
  };
  auto options = std::make_shared<Options>();
  command->add_option("sizes", options->sizes, "FROM:TO, each N (a square) or ROWSxCOLUMNS")->required();
  command->add_flag("--align-corners", options->align_corners, "As align_corners true");
  command
      ->add_option("--correlation", options->correlation, "Of neighbouring cells, along rows and columns (of those at a corner its square)")
      ->capture_default_str()
      ->check(CLI::Range(-1.0, 1.0));
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    nlohmann::json resizings = nlohmann::json::array();
    for (const std::string& text : options->sizes)
      resizings.push_back(factors_of(parse_resizing(text), options->align_corners, options->correlation));
    if (options->json) {
      return print_json({{"align_corners", options->align_corners}, {"correlation", options->correlation}, {"resizings", resizings}});
    }
    fmt::print("bilinear, align_corners {}, neighbours' correlation {}\n\n{:<13} {:<13} {:>13} {:>9} {:>9} {:>9} {:>16}\n",
               options->align_corners, options->correlation, "from", "to", "variance kept", "rows", "columns", "deviation",
               "gradient squared");
    for (const auto& r : resizings) {
      const auto size = [&](const char* key) { return fmt::format("{}x{}", r[key][0].get<int64_t>(), r[key][1].get<int64_t>()); };
      const auto number = [&](const char* key) { return r[key].get<double>(); };
      fmt::print("{:<13} {:<13} {:>13.6f} {:>9.6f} {:>9.6f} {:>9.6f} {:>16.6g}\n", size("from"), size("to"), number("variance_kept"),
                 number("variance_kept_rows"), number("variance_kept_columns"), number("deviation_kept"), number("gradient_second_moment"));
    }
    fmt::print(
        "\nvariance and deviation: those of the resized feature over the feature's, over all positions, the borders' as well\n"
        "gradient squared: the mean square of what a cell is sent, for uncorrelated output gradients of variance 1\n");
  });
}

}  // namespace eq::app
