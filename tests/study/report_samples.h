#pragma once
// Files of runs and studies with invented but plausible numbers, for the pages to show.

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/random.h"

namespace eq::test {

using nlohmann::json;

inline double noise(uint64_t index, uint64_t stream = 0) { return Random(7, stream).fork(index).normal(); }

// A site of four levels, halving in size; scales drift apart with `age`, 0 .. 1.
inline json sample_site(const std::string& name, double age, bool equalized, const std::string& branch_prefix = "level ") {
  json site = {{"site", name}, {"kind", "concat"}, {"height", 64}, {"width", 64}, {"branches", json::array()}};
  double total = 0, largest = 0, smallest = 1e9;
  std::vector<double> gradients;
  for (int i = 0; i < 4; ++i) {
    const double before = 0.584 * (1 + 0.2 * age * i), kept = i == 0 ? 1 : 0.55 + 0.1 * i + 0.05 * age, resized = before * std::sqrt(kept);
    const double gradient = (equalized ? 1 : resized) * (1 + 0.05 * noise(uint64_t(100 * age) + uint64_t(i)));
    gradients.push_back(gradient);
    total += gradient;
    largest = std::max(largest, gradient);
    smallest = std::min(smallest, gradient);
    const double variance = resized * resized;
    json branch = {{"name", branch_prefix + std::to_string(i)},
                   {"channels", 128},
                   {"height", 64 >> i},
                   {"width", 64 >> i},
                   {"upsampled", i > 0},
                   {"before", {{"mean", 0.4}, {"std", before}}},
                   {"resized",
                    {{"mean", 0.4},
                     {"std", resized},
                     {"within_image", 0.8 * variance},
                     {"between_images", 0.05 * variance},
                     {"between_channels", 0.15 * variance}}},
                   {"fused", {{"mean", equalized ? 0.0 : 0.4}, {"std", equalized ? 1 + 0.1 * age * i : resized}}},
                   {"weight_grad_rms", 1e-4 * gradient},
                   {"update_ratio", 1e-3 * gradient},
                   {"input_grad", 0.02 * std::pow(2, i)}};
    for (const char* key : {"lag_one", "white_noise_factor", "predicted_factor", "measured_factor"}) {
      branch[key] = i == 0 ? json(1.0) : json(key[0] == 'l' ? 0.6 : kept);
    }
    site["branches"].push_back(branch);
  }
  for (size_t i = 0; i < gradients.size(); ++i) {
    site["branches"][i]["weight_grad"] = 0.01 * gradients[i];
    site["branches"][i]["weight_grad_share"] = gradients[i] / total;
  }
  site["grad_ratio"] = largest / smallest;
  return site;
}

inline std::string sample_probes(int records, int every, bool layers) {
  std::string lines;
  for (int r = 0; r < records; ++r) {
    const double age = records == 1 ? 0 : double(r) / (records - 1);
    json sum = sample_site("decode_head.top_down_2", age, false, "lateral ");
    sum["kind"] = "sum";
    sum["grad_ratio"] = nullptr;
    for (json& branch : sum["branches"]) branch["weight_grad"] = branch["weight_grad_share"] = branch["update_ratio"] = nullptr;
    json row = {
        {"iteration", r * every},
        {"sites", {sample_site("decode_head.ppm_fusion", age, true, "pool "), sample_site("decode_head.fpn_fusion", age, true), sum}}};
    if (layers) {
      row["layers"] = json::array();
      for (const char* part :
           {"backbone.stem.0", "backbone.layer1.0.conv1", "backbone.layer1.0.conv2", "backbone.layer2.0.conv1", "backbone.layer3.0.conv1",
            "backbone.layer4.0.conv1", "decode_head.lateral_convs.0.conv", "decode_head.fpn_bottleneck.conv", "decode_head.conv_seg"}) {
        const double size = std::exp(-2 * age + noise(row["layers"].size()));
        row["layers"].push_back(
            {{"name", std::string(part) + ".weight"}, {"grad", 0.1 * size}, {"weight", 3.0}, {"update_ratio", 1e-3 * size}});
      }
    }
    lines += row.dump() + "\n";
  }
  return lines;
}

inline json sample_theory() {
  json checks = json::array();
  int failed = 0;
  for (const char* name : {"white noise, align_corners false", "white noise, align_corners true", "pooled pyramid", "correlated input"}) {
    for (int ratio : {2, 3, 4, 5, 8, 16}) {
      const double predicted = 0.4444 + 0.1 / (ratio * ratio), z = noise(checks.size(), 3);
      const bool pass = std::abs(z) < 2;
      failed += !pass;
      checks.push_back({{"name", name},
                        {"setting", "ratio " + std::to_string(ratio) + ", 64 cells"},
                        {"predicted", predicted},
                        {"measured", predicted + 0.0004 * z},
                        {"standard_error", 0.0004},
                        {"z", z},
                        {"pass", pass}});
    }
  }
  checks.push_back({{"name", "single pictures"},
                    {"setting", "no picture gains variance"},
                    {"predicted", 1.0},
                    {"measured", 0.98},
                    {"standard_error", 0.0},
                    {"z", 0.0},
                    {"at_most", true},
                    {"pass", true}});
  json white = json::array();
  for (int i = 1; i < 9; ++i) {
    for (const auto& [ratio, kept] : {std::pair{2, 0.3943}, {4, 0.4342}, {8, 0.4445}}) {
      white.push_back({{"ratio", ratio}, {"variance", i / 9.0}, {"before", i / 9.0}, {"after", kept * i / 9.0}});
    }
  }
  json learning = json::array();
  for (const char* mode : {"off", "explicit", "folded"}) {
    for (const double deviation : {1.0, 0.5}) {
      json curve = {{"optimizer", "sgd"}, {"mode", mode}, {"deviation", deviation}, {"predicted_steps", 22}, {"measured_steps", 23}};
      for (const int step : {0, 10, 20}) {
        const double left = std::pow(1 - 0.1 * (std::string(mode) == "explicit" ? 1 : deviation * deviation), step);
        curve["steps"].push_back(step), curve["predicted"].push_back(left), curve["measured"].push_back(left);
      }
      learning.push_back(std::move(curve));
    }
  }
  learning.push_back({{"optimizer", "adamw"}, {"mode", "off"}, {"deviation", 1.0}, {"predicted_steps", 137}, {"measured_steps", nullptr}});
  const size_t count = checks.size();
  return {{"kind", "theory"},     {"command", "equiscale study theory"}, {"version", "0.1.0"}, {"seconds", 75.0}, {"checks", checks},
          {"white_noise", white}, {"learning", learning}, {"passed", count - size_t(failed)},    {"failed", failed}};
}

inline json sample_probe_study(const std::string& kind) {
  json records = json::array();
  for (const char* head : {"uper", "sep_aspp"}) {
    for (const char* arm : {"off", "explicit"}) {
      for (int iteration : {-1, 0, 100, 200}) {
        records.push_back({{"head", head},
                           {"arm", arm},
                           {"source", iteration < 0 ? "first step" : "run"},
                           {"iteration", std::max(0, iteration)},
                           {"sites",
                            {sample_site("decode_head.ppm_fusion", iteration / 200.0, std::string(arm) != "off", "pool "),
                             sample_site("decode_head.fpn_fusion", iteration / 200.0, std::string(arm) != "off")}}});
      }
    }
  }
  return {{"kind", kind},
          {"command", "equiscale study " + kind + " recipes/camvid.json"},
          {"version", "0.1.0"},
          {"seconds", 300.0},
          {"records", records}};
}

inline json sample_paired(const std::vector<std::string>& names = {"off", "explicit", "folded_normalised"}) {
  json arms = json::array(), runs = json::array(), comparisons = json::array();
  const std::vector<int> seeds = {0, 1, 2, 3, 4};
  std::vector<std::vector<double>> miou(names.size());
  for (size_t a = 0; a < names.size(); ++a) {
    arms.push_back({{"name", names[a]}, {"settings", {"equalizer.mode=" + names[a]}}});
    for (const int seed : seeds) {
      const double value = 0.58 + 0.003 * double(a) + 0.01 * noise(uint64_t(seed), 1) + 0.002 * noise(uint64_t(seed) + 100 * a, 2);
      miou[a].push_back(value);
      json classes = json::array();
      for (int k = 0; k < 11; ++k) classes.push_back(value + 0.03 * noise(uint64_t(k) + 50 * a, 4));
      runs.push_back({{"arm", names[a]},
                      {"seed", seed},
                      {"folder", names[a] + "/seed" + std::to_string(seed)},
                      {"miou", value},
                      {"macc", value + 0.1},
                      {"aacc", value + 0.25},
                      {"per_class", classes},
                      {"cross_entropy", 0.6 - value / 5},
                      {"loss_tail", 0.7 - value / 4},
                      {"seconds", 812.0},
                      {"weights_sha256", std::string(64, 'a')},
                      {"shared_from", nullptr}});
    }
    if (a == 0) continue;
    for (const char* metric : {"miou", "macc", "aacc", "cross_entropy", "loss_tail"}) {
      std::vector<double> differences;
      double mean = 0;
      for (size_t s = 0; s < seeds.size(); ++s) {
        differences.push_back((metric[0] == 'l' ? -0.25 : metric[0] == 'c' ? -0.2 : 1) * (miou[a][s] - miou[0][s]));
        mean += differences.back() / double(seeds.size());
      }
      comparisons.push_back(
          {{"baseline", names[0]},
           {"arm", names[a]},
           {"metric", metric},
           {"differences", differences},
           {"mean", mean},
           {"std", 0.0026},
           {"t_interval", {mean - 0.0032, mean + 0.0032}},
           {"bootstrap_interval", {mean - 0.0021, mean + 0.0022}},
           {"t_test_p", 0.0004},
           {"holm_p", 0.0625},
           {"sign_test_p", 0.375},
           {"wins", 4},
           {"losses", 1},
           {"ties", 0},
           {"seeds_to_settle_0.2", 17},
           {"words", names[a] + " against " + names[0] + ": the interval covers zero; 17 seeds would settle a difference of 0.2 points."}});
    }
  }
  return {{"kind", "run"},
          {"command", "equiscale study run recipes/camvid.json --arms off,explicit,folded_normalised --seeds 5"},
          {"version", "0.1.0"},
          {"seconds", 12180.0},
          {"config", {{"seed", 0}}},
          {"arms", arms},
          {"seeds", seeds},
          {"classes", {"sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"}},
          {"initial_weights", {{{"seed", 0}, {"equal", true}}}},
          {"runs", runs},
          {"comparisons", comparisons},
          {"cost", {{"cpu_seconds", 24000.0}, {"wall_seconds", 12180.0}}}};
}

inline json sample_ablation() {
  json runs = json::array();
  for (const char* name : {"demo/off", "demo/explicit"}) {
    json run = {{"run", name},
                {"head", "uper"},
                {"equalizer", std::string(name).substr(5)},
                {"pictures", 200},
                {"classes", {"sky", "pole", "road"}},
                {"miou", 0.8},
                {"cross_entropy", 0.4},
                {"iou", {0.9, 0.6, nullptr}},
                {"sites", json::array()}};
    for (const char* site : {"decode_head.ppm_fusion", "decode_head.fpn_fusion"}) {
      json branches = json::array();
      for (int b = 0; b < 4; ++b) {
        const double lost = 0.1 / (b + 1) + 0.01 * noise(branches.size(), 5);
        branches.push_back({{"name", "level " + std::to_string(b)},
                            {"channels", 64},
                            {"lost", lost},
                            {"lost_interval", {-0.03, 0.25}},
                            {"cross_entropy", 0.425},
                            {"miou", 0.8 - lost},
                            {"iou", {0.9 - lost, 0.61, nullptr}}});
      }
      run["sites"].push_back({{"site", site}, {"kind", "concat"}, {"branches", branches}});
    }
    runs.push_back(run);
  }
  return {{"kind", "ablation"}, {"command", "equiscale study ablation demo/off demo/explicit"},
          {"version", "0.1.0"}, {"seconds", 60.0},
          {"split", "val"},     {"runs", runs}};
}

inline json sample_claims() {
  json claims = json::array();
  for (const char* verdict : {"holds", "does not hold", "not settled", "not measured"}) {
    claims.push_back({{"claim", std::string("Bilinear upsampling shrinks variance (a claim whose verdict is: ") + verdict + ")"},
                      {"source", "Theorem 3.2"},
                      {"measurement",
                       "0.3943 of the variance is left at ratio 2, 0.4342 at 4, 0.4445 at 8; every check agrees with its closed form "
                       "within three standard errors."},
                      {"verdict", verdict},
                      {"evidence", "equiscale study theory"}});
  }
  return {{"kind", "claims"}, {"command", "equiscale study claims"}, {"version", "0.1.0"}, {"seconds", 3.0}, {"claims", claims}};
}

}  // namespace eq::test
