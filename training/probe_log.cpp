// The files of training/probes.h.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "training/probes.h"

namespace eq {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kHeader =
    "iteration,site,branch,channels,height,width,upsampled,before_mean,before_std,resized_mean,resized_std,fused_mean,fused_std,within_"
    "image,"
    "between_images,between_channels,lag_one,predicted_factor,measured_factor,weight_grad,weight_grad_rms,weight_grad_share,update_ratio,"
    "input_grad,grad_ratio";

ordered_json to_json(const BranchRecord::Scale& scale) {
  return {{"mean", number_or_null(scale.mean)}, {"std", number_or_null(scale.std)}};
}

ordered_json to_json(const BranchRecord& b) {
  ordered_json resized = to_json(b.resized);
  resized["within_image"] = number_or_null(b.within_image);
  resized["between_images"] = number_or_null(b.between_images);
  resized["between_channels"] = number_or_null(b.between_channels);
  return {{"name", b.name}, {"channels", b.channels}, {"height", b.height}, {"width", b.width}, {"upsampled", b.upsampled},
          {"before", to_json(b.before)}, {"resized", resized}, {"fused", to_json(b.fused)}, {"lag_one", number_or_null(b.lag_one)},
          {"predicted_factor", number_or_null(b.predicted_factor)}, {"measured_factor", number_or_null(b.measured_factor)},
          {"weight_grad", number_or_null(b.weight_grad)}, {"weight_grad_rms", number_or_null(b.weight_grad_rms)},
          {"weight_grad_share", number_or_null(b.weight_grad_share)}, {"update_ratio", number_or_null(b.update_ratio)},
          {"input_grad", number_or_null(b.input_grad)}};
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

std::string probe_json(const ProbeRecord& record) { return to_json(record).dump(); }

ProbeLog::ProbeLog(const ProbeOptions& options, std::filesystem::path folder, int64_t resume_from)
    : options_(options), rows_(options.every > 0 ? std::move(folder) : std::filesystem::path(), "probes", kHeader, resume_from) {}

std::unique_ptr<Probe> ProbeLog::probe(EncoderDecoder& model, int64_t iteration, int64_t iterations) const {
  if (options_.every == 0 || (iteration % options_.every != 0 && iteration + 1 != iterations)) return nullptr;
  return std::make_unique<Probe>(model, iteration, options_.layers);
}

void ProbeLog::write(const ProbeRecord& record) const {
  std::vector<std::string> rows;
  for (const SiteRecord& site : record.sites) {
    for (const BranchRecord& b : site.branches) {
      std::string row =
          fmt::format("{},{},{},{},{},{},{}", record.iteration, site.site, b.name, b.channels, b.height, b.width, int(b.upsampled));
      for (double value : {b.before.mean, b.before.std, b.resized.mean, b.resized.std, b.fused.mean, b.fused.std, b.within_image,
                           b.between_images, b.between_channels, b.lag_one, b.predicted_factor, b.measured_factor, b.weight_grad,
                           b.weight_grad_rms, b.weight_grad_share, b.update_ratio, b.input_grad, site.grad_ratio}) {
        row += ',';
        row += csv_number(value);
      }
      rows.push_back(row);
    }
  }
  rows_.append(probe_json(record), rows);
}

}  // namespace eq
