// The files of training/probes.h.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "training/probes.h"

namespace eq {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

template <auto Member>
double& number(BranchRecord& branch) {
  return branch.*Member;
}
template <auto Scale, auto Member>
double& number(BranchRecord& branch) {
  return branch.*Scale.*Member;
}

using Branch = BranchRecord;
using Scale = BranchRecord::Scale;
constexpr BranchNumber kNumbers[] = {{"before_mean", "before", "mean", number<&Branch::before, &Scale::mean>},
                                     {"before_std", "before", "std", number<&Branch::before, &Scale::std>},
                                     {"resized_mean", "resized", "mean", number<&Branch::resized, &Scale::mean>},
                                     {"resized_std", "resized", "std", number<&Branch::resized, &Scale::std>},
                                     {"fused_mean", "fused", "mean", number<&Branch::fused, &Scale::mean>},
                                     {"fused_std", "fused", "std", number<&Branch::fused, &Scale::std>},
                                     {"within_image", "resized", "within_image", number<&Branch::within_image>},
                                     {"between_images", "resized", "between_images", number<&Branch::between_images>},
                                     {"between_channels", "resized", "between_channels", number<&Branch::between_channels>},
                                     {"lag_one", nullptr, "lag_one", number<&Branch::lag_one>},
                                     {"white_noise_factor", nullptr, "white_noise_factor", number<&Branch::white_noise_factor>},
                                     {"predicted_factor", nullptr, "predicted_factor", number<&Branch::predicted_factor>},
                                     {"measured_factor", nullptr, "measured_factor", number<&Branch::measured_factor>},
                                     {"weight_grad", nullptr, "weight_grad", number<&Branch::weight_grad>},
                                     {"weight_grad_rms", nullptr, "weight_grad_rms", number<&Branch::weight_grad_rms>},
                                     {"weight_grad_share", nullptr, "weight_grad_share", number<&Branch::weight_grad_share>},
                                     {"update_ratio", nullptr, "update_ratio", number<&Branch::update_ratio>},
                                     {"input_grad", nullptr, "input_grad", number<&Branch::input_grad>}};

std::string csv_header() {
  std::string header = "iteration,site,branch,channels,height,width,upsampled,";
  for (const BranchNumber& number : kNumbers) header.append(number.column).append(",");
  return header + "grad_ratio";
}

ordered_json to_json(BranchRecord b) {
  ordered_json value = {{"name", b.name}, {"channels", b.channels}, {"height", b.height}, {"width", b.width}, {"upsampled", b.upsampled}};
  for (const BranchNumber& number : kNumbers) {
    (number.group ? value[number.group] : value)[number.key] = number_or_null(number.of(b));
  }
  return value;
}

ordered_json to_json(const ProbeRecord& record) {
  ordered_json sites = ordered_json::array(), layers = ordered_json::array();
  for (const SiteRecord& site : record.sites) {
    ordered_json branches = ordered_json::array();
    for (const BranchRecord& branch : site.branches) branches.push_back(to_json(branch));
    sites.push_back({{"site", site.site}, {"kind", site.kind}, {"height", site.height}, {"width", site.width}, {"depthwise", site.depthwise},
                     {"grad_ratio", number_or_null(site.grad_ratio)}, {"branches", branches}});
  }
  for (const WeightRecord& layer : record.layers) {
    layers.push_back({{"name", layer.name}, {"grad", number_or_null(layer.grad)}, {"weight", number_or_null(layer.weight)},
                      {"update_ratio", number_or_null(layer.update_ratio)}});
  }
  return {{"iteration", record.iteration}, {"sites", sites}, {"layers", layers}};
}

}  // namespace

std::span<const BranchNumber> branch_numbers() { return kNumbers; }

std::string probe_json(const ProbeRecord& record) { return to_json(record).dump(); }

ProbeLog::ProbeLog(const ProbeOptions& options, std::filesystem::path folder, int64_t resume_from)
    : options_(options), rows_(options.every > 0 ? std::move(folder) : std::filesystem::path(), "probes", csv_header(), resume_from) {}

std::unique_ptr<Probe> ProbeLog::probe(EncoderDecoder& model, int64_t iteration, int64_t iterations) const {
  if (options_.every == 0 || (iteration % options_.every != 0 && iteration + 1 != iterations)) return nullptr;
  return std::make_unique<Probe>(model, iteration, options_.layers);
}

void ProbeLog::write(const ProbeRecord& record) const {
  std::vector<std::string> rows;
  for (const SiteRecord& site : record.sites) {
    for (BranchRecord b : site.branches) {
      std::string row =
          fmt::format("{},{},{},{},{},{},{},", record.iteration, site.site, b.name, b.channels, b.height, b.width, int(b.upsampled));
      for (const BranchNumber& number : kNumbers) row += csv_number(number.of(b)) + ",";
      rows.push_back(row + csv_number(site.grad_ratio));
    }
  }
  rows_.append(probe_json(record), rows);
}

}  // namespace eq
