#pragma once
// What the subcommands share. Each subcommand is one file with one function, add_<name>(app), listed in main.cpp; it holds
// no logic of its own beyond reading options, calling the library and printing.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "training/config.h"
#include "training/trained_model.h"

namespace eq::app {

void add_doctor(CLI::App& app);
void add_demo(CLI::App& app);
void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_predict(CLI::App& app);
void add_fold(CLI::App& app);
void add_recalibrate_bn(CLI::App& app);
void add_convert(CLI::App& app);
void add_export(CLI::App& app);
void add_inspect(CLI::App& app);
void add_data(CLI::App& app);
void add_summary(CLI::App& app);
void add_report(CLI::App& app);
void add_bench(CLI::App& app);
void add_study(CLI::App& app);
void add_study_upsampling(CLI::App& study);

// A subcommand whose help ends with an example.
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& what_it_does, const std::string& example);

// Bytes that the machine, or the container, can give now; 0 if it does not say.
size_t available_memory();

// Text of a file, for the terminal: quoted and escaped where it could steer it.
std::string printable(const std::string& text);

// A new file of weights is a .safetensors. Throws UsageError.
void check_weights_name(const std::filesystem::path& out);

// A file made from another one does not replace it. Throws UsageError.
void check_not_source(const std::filesystem::path& out, const std::filesystem::path& source);

// Whole numbers from 0 on, for an option's check. CLI11's own take a number that is too large for its type as the largest, and for types
// without a sign a negative one as a large one.
CLI::Validator from_zero(int64_t most = int64_t{1} << 40);
inline CLI::Validator any_seed() { return from_zero(std::numeric_limits<int64_t>::max()); }

// --set, for a list of changes of a configuration's keys.
void add_settings(CLI::App* command, std::vector<std::string>& settings, const std::string& what_it_does);

// --split; `more` goes on from "train, val or test".
void add_split(CLI::App* command, std::string& split, const std::string& more = "");

// --device, --threads, --convolution, --tf32, applied by apply(), which also keeps tensors from taking more memory than there is.
struct MachineOptions {
  std::string device = "cpu";
  std::string convolution = "auto";
  bool tf32 = false;
  int threads = 0;  // 0: default_threads()
  void add_to(CLI::App* command);
  void apply() const;  // throws UsageError or DeviceError
};

// --slide and --tta.
struct ViewOptions {
  bool slide = false, many = false;
  void add_to(CLI::App* command);
  std::vector<std::string> settings() const;  // what they stand for
};

// CONFIG, --set and --seed, for every command that reads a configuration.
struct ConfigOptions {
  std::string path;
  std::vector<std::string> settings;
  long long seed = -1;
  void add_to(CLI::App* command);
  std::vector<std::string> all_settings() const;  // with the seed
  std::filesystem::path file() const;             // of a run's folder, the configuration in it
  Config load() const;
};

// RUN and --set, for every command that uses a trained network.
struct RunOptions {
  std::string path, weights = "last";
  std::vector<std::string> settings;
  void add_to(CLI::App* command, const std::string& example);  // of a setting: "data.root=elsewhere"
  TrainedModel load(std::vector<std::string> first = {}) const;  // with these settings, which --set may change
};

// Says on standard error which keys have no effect, and which are hardly meant (training/unread_keys.h).
void note_unread_keys(const Config& config);

// One line of JSON or indented text on standard output.
void print_json(const nlohmann::json& value);

std::string human_bytes(double bytes);    // "1.5 GiB"
std::string human_count(double count);    // "12.3 M"

}  // namespace eq::app
