#pragma once
// The configuration: one JSON file (with // comments) that says everything about a run. Every key has a default; a key that nothing
// reads is an error. The table of keys, with their ranges, is training/config_fields.cpp.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "datasets/options.h"
#include "models/options.h"
#include "training/options.h"

namespace eq {

struct LoaderOptions;

struct Config {
  int64_t seed = 0;
  DataOptions data;
  PipelineOptions pipeline;
  ModelOptions model;  // with the section "equalizer"
  TrainOptions train;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  EvaluateOptions evaluate;
  ProbeOptions probes;
};

// `settings` are "dotted.key=value" and are applied before anything is read: the value is JSON, or else the text as it stands; a number in
// the key is an index into a list; "null" switches optional sections off. Throws IoError (the file), DataError (not JSON: with line and
// column) and UsageError naming the key's path, and the nearest known key for an unknown one.
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& settings = {});
Config parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& settings = {});

// What the run's loader is told. Where `train.loader_threads` is 0, a GPU gets its pictures from as many threads as there are
// (num_threads()) but one, 8 at most; a network on the CPU from one, since it needs the cores itself.
LoaderOptions loader_options(const Config& config);

// Throws UsageError for a value that no file could have given, as if it stood in one: for configurations that a program made. TrainStep and
// train() ask, and what optimizes, plans the learning rate or evaluates asks for its section.
void check_config(const Config& config);
void check_config(const OptimizerOptions& section);
void check_config(const ScheduleOptions& section);
void check_config(const EvaluateOptions& section);

// The resolved configuration, every key written out; parse_config reads it back to the same values.
std::string to_json_text(const Config& config);

// The dotted keys in which two configurations differ.
std::vector<std::string> config_differences(const Config& a, const Config& b);
// Those that a run may not change between its parts: `free` names what it may, "data.root", or a whole section, "probes.". A section that
// one of the two has switched off is one difference, not one for each of its keys, too.
std::vector<std::string> differences_but_for(std::span<const char* const> free, const Config& a, const Config& b);

}  // namespace eq
