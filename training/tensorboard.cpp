#include "training/tensorboard.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <vector>

#include "core/file.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

// Numbers of fields in event.proto and summary.proto, and two values of enumerations.
constexpr int kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5, kEventSessionLog = 7;
constexpr int kSessionStatus = 1, kStart = 1;
constexpr int kSummaryValue = 1, kValueTag = 1, kValueNumber = 2, kValueImage = 4;
constexpr int kImageHeight = 1, kImageWidth = 2, kImageColorspace = 3, kImageEncoded = 4, kRgb = 3;

// The file is events.out.tfevents.<seconds>.equiscale: TensorBoard asks for "tfevents" in the name, and reads a folder's files in the
// names' order.
constexpr std::string_view kNameBegin = "events.out.tfevents.", kNameEnd = ".equiscale";

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    table[byte] = crc;
  }
  return table;
}();

template <class Integer>
std::string little_endian(Integer value) {
  static_assert(std::endian::native == std::endian::little);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string masked_checksum(std::string_view bytes) { return little_endian(std::rotr(crc32c(bytes), 15) + 0xa282ead8u); }

ProtobufMessage event_now() {
  ProtobufMessage event;
  event.fixed64(kEventWallTime, std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  return event;
}

void add_scalar(ProtobufMessage& summary, const std::string& tag, double number) {
  if (!std::isfinite(number)) return;
  ProtobufMessage value;
  value.bytes(kValueTag, tag);
  value.fixed32(kValueNumber, float(number));
  summary.message(kSummaryValue, value);
}

// What tells whether an event is kept.
struct EventHead {
  int64_t step = 0;
  std::string_view tag;  // of its first value
};

uint64_t take_varint(std::string_view& rest) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
    const auto byte = uint8_t(rest.front());
    rest.remove_prefix(1);
    value |= uint64_t(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return value;
}

// Reads what append() writes, and nothing else: wall time, step, and a summary whose first value begins with its tag.
std::optional<EventHead> parse_head(std::string_view rest) {
  constexpr size_t kWallTimeBytes = 9;
  if (rest.size() < kWallTimeBytes || rest[0] != '\x09') return std::nullopt;
  rest.remove_prefix(kWallTimeBytes);
  EventHead head;
  for (const char field : {'\x10', '\x2a', '\x0a', '\x0a'}) {  // field << 3 | type: step; the lengths of summary, value and tag
    if (rest.empty() || rest[0] != field) return std::nullopt;
    rest.remove_prefix(1);
    const uint64_t number = take_varint(rest);
    if (field == '\x10') head.step = int64_t(number);
    head.tag = rest.substr(0, number);
  }
  return head;
}

// Up to the first record that is not whole: a kill cut it off.
void copy_events(const fs::path& from, FileWriter& to, const std::function<bool(const EventHead&)>& keep) {
  constexpr uint64_t kFrame = 16;  // bytes around an event
  FileReader reader(from);
  for (uint64_t left = reader.size(); left >= kFrame;) {
    uint64_t length = 0;
    reader.read(&length, sizeof length);
    if (length > left - kFrame) return;
    std::string record = little_endian(length);
    record.resize(kFrame + length);
    reader.read(record.data() + sizeof length, record.size() - sizeof length);
    left -= record.size();
    const std::string_view event = std::string_view(record).substr(12, length);
    if (record != event_record(event)) return;
    const std::optional<EventHead> head = parse_head(event);
    if (head && keep(*head)) to.write(record);
  }
}

// Our files in a folder, the newest last; what a kill left of one that was being written is among them.
std::vector<fs::path> event_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.find(kNameBegin) != std::string::npos && name.find(kNameEnd) != std::string::npos) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// 0 if it has none.
int64_t seconds_in_name(const fs::path& file) {
  const std::string name = file.filename().string();
  if (!name.starts_with(kNameBegin)) return 0;
  const std::string digits = name.substr(kNameBegin.size(), name.find_first_not_of("0123456789", kNameBegin.size()) - kNameBegin.size());
  return digits.empty() || digits.size() > 18 ? 0 : std::stoll(digits);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ kCrcTable[(crc ^ uint8_t(byte)) & 0xff];
  return ~crc;
}

std::string event_record(std::string_view event) {
  std::string record = little_endian(uint64_t(event.size()));
  record += masked_checksum(record);
  record += event;
  return record + masked_checksum(event);
}

// A resumed run gets a new file with the events that are kept, and the old one goes: so no step is there twice, for any reader. TensorBoard
// could be told by a session's start to forget the steps from one on, but other readers do not know of that, and at the iteration of a
// checkpoint some events are made again and some are not. Nor is the old file rewritten in place: a TensorBoard that has it open would go
// on at its old position. It goes on to a file of a greater name, where the session's start at step 0 makes it forget what it has read.
// (With --load_fast=false and without TensorFlow it waits for the old file until it is started again.)
TensorBoardLog::TensorBoardLog(const fs::path& folder, int64_t resume_from, bool keep_evaluation) {
  make_folder(folder);
  const std::vector<fs::path> earlier = event_files(folder);
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  const int64_t seconds = earlier.empty() ? now.count() : std::max<int64_t>(now.count(), seconds_in_name(earlier.back()) + 1);
  path_ = folder / fmt::format("{}{:010}{}", kNameBegin, seconds, kNameEnd);

  FileWriter writer(path_);
  ProtobufMessage version = event_now();
  version.bytes(kEventFileVersion, "brain.Event:2");
  writer.write(event_record(version.data()));
  if (!earlier.empty()) {
    ProtobufMessage session, start = event_now();
    session.varint(kSessionStatus, kStart);
    start.message(kEventSessionLog, session);
    writer.write(event_record(start.data()));
    copy_events(earlier.back(), writer, [&](const EventHead& head) {
      if (head.step != resume_from) return head.step < resume_from;
      return head.tag.starts_with("train/") || (keep_evaluation && head.tag.starts_with("val/"));
    });
  }
  writer.commit();
  for (const fs::path& file : earlier) {
    std::error_code ignored;
    fs::remove(file, ignored);
  }
}

void TensorBoardLog::append(int64_t step, const ProtobufMessage& summary) const {
  if (summary.data().empty()) return;
  ProtobufMessage event = event_now();
  event.varint(kEventStep, uint64_t(step));
  event.message(kEventSummary, summary);
  append_bytes(path_, event_record(event.data()));
}

void TensorBoardLog::progress(const Progress& p) const {
  ProtobufMessage summary;
  add_scalar(summary, "train/loss", p.loss);
  if (p.has_aux) {
    add_scalar(summary, "train/main_loss", p.main_loss);
    add_scalar(summary, "train/aux_loss", p.aux_loss);
  }
  add_scalar(summary, "train/lr", p.lr);
  add_scalar(summary, "train/grad_norm", p.grad_norm);
  add_scalar(summary, "train/images_per_second", p.images_per_second);
  add_scalar(summary, "train/data_wait", p.data_wait);
  add_scalar(summary, "train/memory_bytes", double(p.memory_bytes));
  append(p.iteration, summary);
}

void TensorBoardLog::evaluation(int64_t iteration, const SegmentationMetrics& metrics) const {
  ProtobufMessage summary;
  add_scalar(summary, "val/mIoU", metrics.miou);
  add_scalar(summary, "val/mAcc", metrics.macc);
  add_scalar(summary, "val/aAcc", metrics.aacc);
  add_scalar(summary, "val/mDice", metrics.mdice);
  add_scalar(summary, "val/cross_entropy", metrics.cross_entropy);
  for (const ClassMetrics& c : metrics.classes) add_scalar(summary, "val/IoU/" + c.name, c.iou);
  append(iteration, summary);
}

void TensorBoardLog::overlay(int64_t iteration, int64_t index, int64_t height, int64_t width, std::span<const uint8_t> png) const {
  ProtobufMessage image, value, summary;
  image.varint(kImageHeight, uint64_t(height));
  image.varint(kImageWidth, uint64_t(width));
  image.varint(kImageColorspace, kRgb);
  image.bytes(kImageEncoded, {reinterpret_cast<const char*>(png.data()), png.size()});
  value.bytes(kValueTag, fmt::format("val/overlay/{:04d}", index));  // not its name, which need not be UTF-8
  value.message(kValueImage, image);
  summary.message(kSummaryValue, value);
  append(iteration, summary);
}

void TensorBoardLog::probe(const ProbeRecord& record) const {
  ProtobufMessage summary;
  for (const SiteRecord& site : record.sites) {
    const std::string begin = "probes/" + site.site + "/";
    add_scalar(summary, begin + "grad_ratio", site.grad_ratio);
    for (const BranchRecord& b : site.branches) {
      add_scalar(summary, begin + "before_std/" + b.name, b.before.std);
      add_scalar(summary, begin + "resized_std/" + b.name, b.resized.std);
      add_scalar(summary, begin + "fused_std/" + b.name, b.fused.std);
      add_scalar(summary, begin + "weight_grad/" + b.name, b.weight_grad);
      add_scalar(summary, begin + "weight_grad_share/" + b.name, b.weight_grad_share);
      add_scalar(summary, begin + "input_grad/" + b.name, b.input_grad);
    }
  }
  append(record.iteration, summary);
}

}  // namespace eq
