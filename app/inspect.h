#pragma once
// What `equiscale inspect` can look into, beside data sets, and `equiscale data` a file each.

#include "app/common.h"
#include "datasets/inspect.h"

namespace eq::app {

void add_inspect_ckpt(CLI::App& inspect);
void add_inspect_run(CLI::App& inspect);
void add_data_init(CLI::App& data);

// What looks through a data set takes: which one, what of it, and how to print.
struct LookOptions {
  ConfigOptions config;
  MachineOptions machine;
  std::string split = "train";
  int64_t samples = 0;
  bool json = false;
  void add_to(CLI::App* command);
};

// inspect_dataset with a line of progress on a terminal.
DataReport inspect_shown(const Dataset& dataset, int64_t samples);

// Pixels, share and pictures of each class, with its weight if there are such, and the ignored share.
void print_classes(const DataReport& report, const std::vector<double>& weights = {});

}  // namespace eq::app
