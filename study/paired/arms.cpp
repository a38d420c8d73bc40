#include "study/paired/arms.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "core/errors.h"
#include "core/sha256.h"
#include "datasets/dataset.h"
#include "models/segmentor.h"

namespace eq {
namespace {

constexpr const char* kExample = "for example off,explicit or \"off,slow:equalizer.mode=explicit;optimizer.lr=1e-4\"";

// Parts between separators that stand outside of brackets and quotes.
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  int depth = 0;
  bool quoted = false;
  for (const char c : text) {
    quoted ^= c == '"';
    if (!quoted) depth += (c == '[' || c == '{') - (c == ']' || c == '}');
    if (c == separator && depth == 0 && !quoted) parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

void check_name(const std::string& name, const char* option) {
  const bool plain = !name.empty() && name.size() <= 64 && name[0] != '.' &&
                     name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-") == std::string::npos;
  if (!plain) throw UsageError("'" + name + "' is no plain name", option, std::string("letters, digits, _ . + -; ") + kExample);
  for (const char* file : {"study.json", "report.html"}) {
    if (name == file) throw UsageError("'" + name + "' is a file of the study's folder, as an arm's folder would be", option, kExample);
  }
}

ArmSpec parse_spec(const std::string& text, const char* option, const NameSettings& settings_of) {
  const size_t colon = text.find(':');
  ArmSpec arm{text.substr(0, colon), {}};
  check_name(arm.name, option);
  if (colon == std::string::npos) {
    arm.settings = settings_of(arm.name);
    return arm;
  }
  for (std::string& setting : split(text.substr(colon + 1), ';')) {
    if (!setting.empty()) arm.settings.push_back(std::move(setting));
  }
  return arm;
}

Config resolve(const std::filesystem::path& path, std::vector<std::string> settings, const ArmSpec& spec) {
  settings.insert(settings.end(), spec.settings.begin(), spec.settings.end());
  try {
    return load_config(path, settings);
  } catch (const UsageError& error) {
    throw UsageError(error.what_happened(), "arm " + spec.name + ": " + error.where(), error.try_this());
  }
}

using Hashes = std::map<std::string, std::string>;

Hashes initial_hashes(Config config) {
  config.model.num_classes = make_dataset(config.data, "train")->num_classes();
  const InitRandom random{uint64_t(config.seed)};
  Hashes hashes;
  for (const auto& [name, tensor] : EncoderDecoder(config.model).state_dict()) {
    hashes[name] = sha256_hex(std::map<std::string, Tensor>{{name, tensor}});
  }
  return hashes;
}

}  // namespace

std::vector<ArmSpec> parse_specs(const std::string& text, const char* option, const NameSettings& settings_of) {
  std::vector<ArmSpec> specs;
  std::set<std::string> names;
  for (const std::string& part : split(text, ',')) {
    specs.push_back(parse_spec(part, option, settings_of));
    if (!names.insert(specs.back().name).second) throw UsageError("'" + specs.back().name + "' is there twice", option, kExample);
  }
  return specs;
}

std::vector<ArmSpec> arm_specs(const std::string& text) {
  return parse_specs(text, "--arms", [](const std::string& name) {
    return std::vector<std::string>{"equalizer.mode=" + (name == "on" ? "explicit" : name)};
  });
}

std::vector<ArmSpec> parse_arms(const std::string& text) {
  const std::vector<ArmSpec> arms = arm_specs(text);
  if (arms.size() < 2) throw UsageError("one arm cannot be compared with anything", "--arms", kExample);
  return arms;
}

int64_t seed_after(const Config& config, int64_t i) {
  if (config.seed <= std::numeric_limits<int64_t>::max() - i) return config.seed + i;
  throw UsageError(fmt::format("there is no seed {} after {}", i, config.seed), "seed", "begin with a smaller one");
}

Arms resolve_arms(const std::filesystem::path& config, const std::vector<std::string>& settings, const std::vector<ArmSpec>& specs,
                  int64_t seeds) {
  if (seeds < 1 || seeds > 1000) throw UsageError(std::to_string(seeds) + " seeds are out of range", "--seeds", "use 1 to 1000");
  Arms result;
  for (const ArmSpec& spec : specs) {
    Arm arm{spec, {}, -1};
    const Config first = resolve(config, settings, spec);
    for (int64_t i = 0; i < seeds; ++i) {
      arm.configs.push_back(first);
      arm.configs.back().seed = seed_after(first, i);
    }
    if (!result.arms.empty() && first.seed != result.arms.front().configs.front().seed) {
      throw UsageError("an arm may not choose its seed", "arm " + spec.name, "pairs share their seed: give it with --seed");
    }
    for (size_t i = 0; i < result.arms.size() && arm.same_as < 0; ++i) {
      if (config_differences(result.arms[i].configs.front(), first).empty()) arm.same_as = int64_t(i);
    }
    result.arms.push_back(std::move(arm));
  }
  for (const Config& c : result.arms.front().configs) result.seeds.push_back(c.seed);
  return result;
}

WeightsOfSeed compare_initial_weights(const Arms& arms, size_t seed_index) {
  WeightsOfSeed result{.seed = arms.seeds[seed_index]};
  Hashes common;
  for (const Arm& arm : arms.arms) {
    if (arm.same_as >= 0) continue;
    Hashes hashes = initial_hashes(arm.configs[seed_index]);
    if (common.empty()) common = std::move(hashes);
    else std::erase_if(common, [&](const auto& entry) {
      const auto found = hashes.find(entry.first);
      if (found != hashes.end() && found->second != entry.second && result.equal) {
        result.equal = false;
        result.first_difference = arm.spec.name + ": " + entry.first;
      }
      return found == hashes.end();
    });
  }
  Sha256 all;
  for (const auto& [name, hash] : common) all.update((name + hash).data(), name.size() + hash.size());
  result.sha256 = all.hex();
  return result;
}

}  // namespace eq
