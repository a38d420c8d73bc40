#pragma once
// What TensorBoard shows of a run, where asked for (train.tensorboard): one file of events in the run's folder tensorboard/, so that
// `tensorboard --logdir runs` shows runs beside each other. The values are those of metrics.csv and probes.csv, under the tags train/...,
// val/... and probes/...; the steps are their iterations. Values that were not measured are left out.
//
// An event is a message of TensorFlow's event.proto. A record holds one and is written at once: a kill cuts off the last one at most, which
// TensorBoard expects.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/protobuf.h"
#include "training/metrics.h"
#include "training/probes.h"
#include "training/run_log.h"

namespace eq {

class TensorBoardLog {
 public:
  // Events after update `resume_from` are removed, and those of that iteration that are about to be made again: its probe, and its
  // evaluation unless `keep_evaluation`; -1 removes all. Throws IoError, as does whatever writes.
  TensorBoardLog(const std::filesystem::path& folder, int64_t resume_from, bool keep_evaluation);

  void progress(const Progress& progress) const;
  void evaluation(int64_t iteration, const SegmentationMetrics& metrics) const;
  // Picture number `index` of those in overlays/, the bytes of a file and its size in pixels.
  void overlay(int64_t iteration, int64_t index, int64_t height, int64_t width, std::span<const uint8_t> png) const;
  void probe(const ProbeRecord& record) const;

 private:
  void append(int64_t step, const ProtobufMessage& summary) const;

  std::filesystem::path path_;
};

// The parts of the format, as tests see them. A record is u64 length, its checksum, the event, its checksum; checksums are
// CRC-32C (Castagnoli), changed so that one over bytes that contain one is as good as any.
uint32_t crc32c(std::string_view bytes);
std::string event_record(std::string_view event);

}  // namespace eq
