#pragma once
// Arms of a paired experiment: one configuration, changed in one respect each.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "training/config.h"

namespace eq {

struct ArmSpec {
  std::string name;                   // also the folder's
  std::vector<std::string> settings;  // "dotted.key=value"
};

// What a name without settings of its own stands for.
using NameSettings = std::function<std::vector<std::string>(const std::string& name)>;
// "name,name:key=value;key=value,...": settings follow a colon, separated by semicolons. Commas within brackets or quotes do not separate.
// Throws UsageError naming `option` for a name twice and names that are no plain folder names.
std::vector<ArmSpec> parse_specs(const std::string& text, const char* option, const NameSettings& settings_of);

// A name alone is a mode of the equalizer ("on": explicit). One arm or more.
std::vector<ArmSpec> arm_specs(const std::string& text);

// arm_specs for a comparison, such as "off,explicit,gentle:optimizer.lr=1e-4;equalizer.mode=explicit": throws UsageError for fewer than
// two.
std::vector<ArmSpec> parse_arms(const std::string& text);

struct Arm {
  ArmSpec spec;
  std::vector<Config> configs;  // one a seed
  int64_t same_as = -1;         // an earlier arm with the same configuration: it is not run again
};

struct Arms {
  std::vector<int64_t> seeds;  // the configuration's and those after it
  std::vector<Arm> arms;
};

// The i-th seed from the configuration's on. Throws UsageError where there is none.
int64_t seed_after(const Config& config, int64_t i);

// Resolves every arm for `seeds` seeds. Throws what load_config throws, naming the arm.
Arms resolve_arms(const std::filesystem::path& config, const std::vector<std::string>& settings, const std::vector<ArmSpec>& specs,
                  int64_t seeds);

// The weights that arms begin with, for one seed: whether all that they have in common are equal.
struct WeightsOfSeed {
  int64_t seed = 0;
  bool equal = true;
  std::string sha256;            // of the common weights, of the first arm
  std::string first_difference;  // "explicit: decode_head.conv_seg.weight"
};

// Builds each arm's network (in its data set's number of classes) and compares.
WeightsOfSeed compare_initial_weights(const Arms& arms, size_t seed_index);

}  // namespace eq
