#pragma once
// What a run says while it runs: the progress line, log.txt, metrics.jsonl and metrics.csv.

#include <cstdio>
#include <filesystem>
#include <string>

#include "core/progress_line.h"
#include "training/evaluator.h"
#include "training/row_files.h"
#include "training/train_step.h"

namespace eq {

struct Progress {  // measured over the steps since the last line
  int64_t iteration = 0;   // updates made so far
  int64_t iterations = 0;  // of the whole run
  double loss = 0, main_loss = 0, aux_loss = 0;  // means
  bool has_aux = false;
  double lr = 0, grad_norm = 0;  // of the last step
  double images_per_second = 0;
  double data_wait = 0;     // share of the time spent waiting for the loader, 0 .. 1
  size_t memory_bytes = 0;  // peak of tensors
  double seconds = 0;       // of training so far, over all resumptions
  double eta_seconds = 0;
};

// "iter  1200/4000  loss 0.412 (main .341 aux .178)  lr 7.3e-03  |g| 1.84  128 img/s  data 3%  mem 1.9G  eta 0:02:11"
std::string progress_line(const Progress& progress);

class RunLog {
 public:
  // Rows of an earlier part of the run after iteration `resume_from` are removed: they are about to be made again; log.txt keeps all that
  // was said. Files are written below `folder` unless it is empty, text also goes to `out` unless it is null. Throws IoError.
  RunLog(std::filesystem::path folder, std::FILE* out, int64_t resume_from);
  RunLog(const RunLog&) = delete;

  void say(const std::string& text);           // a line of its own
  void progress(const Progress& progress);     // a line that stays, and a row in each file
  void glance(const Progress& progress);       // on a terminal: a line that the next one overwrites; else nothing
  void evaluation(int64_t iteration, const EvalResult& result,
                  double seconds);  // the table, and a row in each file, instead of an older one
  bool has_evaluation(int64_t iteration) const;

 private:
  std::filesystem::path folder_;
  RowFiles rows_;
  std::FILE* out_;
  ProgressLine line_;
};

// The metrics as JSON text: miou, macc, aacc, mdice, cross_entropy, classes_in_mean, pixels, ignored_pixels, per_class; absent values are
// null.
std::string metrics_json(const SegmentationMetrics& metrics);

}  // namespace eq
