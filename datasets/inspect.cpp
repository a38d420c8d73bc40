#include "datasets/inspect.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/errors.h"
#include "core/parallel.h"
#include "core/words.h"
#include "datasets/folders.h"

namespace eq {
namespace {

constexpr int64_t kEndlessSamples = 256;   // inspected of an endless set when all are asked for
constexpr int64_t kRound = 64;             // samples between looks at what is still missing
constexpr double kMostIgnored = 0.95;

// What one sample says; merged in order, so that reports do not depend on threads.
struct Finding {
  std::string image_mode, label_mode;
  std::array<int64_t, 2> size{};  // width, height; 0: not known
  std::array<int64_t, 256> file_values{};
  std::array<int64_t, 256> classes{};  // after the map; out of range counts as ignored
  PixelSums pixels;
  std::vector<DataProblem> problems;
};

PixelSums sums_of(const Image& image) {
  PixelSums sums{.count = int64_t(image.pixels.size() / 3)};
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) {
      const uint64_t value = image.pixels[i + c];
      sums.sum[c] += value;
      sums.squares[c] += value * value;
    }
  }
  return sums;
}

std::string mode_text(const PictureInfo& info) {
  return info.format + " " + info.mode + " " + std::to_string(info.bits) + (info.bits == 1 ? " bit" : " bits");
}

DataProblem unreadable(const Error& error, const std::string& file) {
  return {.kind = DataProblem::Kind::kUnreadable,
          .file = file,
          .message = error.what_happened() + (error.where() == file || error.where().empty() ? "" : " (" + error.where() + ")"),
          .hint = error.try_this()};
}

void count_labels(const LabelMap& labels, std::array<int64_t, 256>& counts) {
  for (uint8_t value : labels.labels) ++counts[value];
}

void inspect_image(const Dataset& dataset, int64_t index, const LabelMap* labels, bool decode, Finding& finding) {
  const SampleFiles& files = *dataset.files(index);
  try {
    const PictureInfo info = probe_picture(files.image);
    finding.image_mode = mode_text(info);
    finding.size = {info.width, info.height};
    if (labels != nullptr && (info.width != labels->width || info.height != labels->height)) {
      const DataError mismatch = size_mismatch(info, *labels, files.labels.string());
      finding.problems.push_back({.kind = DataProblem::Kind::kSizeMismatch,
                                  .file = files.labels.string(),
                                  .message = mismatch.what_happened(),
                                  .hint = mismatch.try_this()});
    }
    if (decode) finding.pixels = sums_of(read_image(files.image));
  } catch (const Error& error) {
    finding.problems.push_back(unreadable(error, files.image.string()));
  }
}

void inspect_files(const Dataset& dataset, int64_t index, bool decode, Finding& finding) {
  const SampleFiles& files = *dataset.files(index);
  LabelMap labels;
  try {
    finding.label_mode = mode_text(probe_picture(files.labels));
    labels = dataset.load_file_labels(index);
  } catch (const Error& error) {
    inspect_image(dataset, index, nullptr, decode, finding);
    finding.problems.push_back(unreadable(error, files.labels.string()));
    return;
  }
  inspect_image(dataset, index, &labels, decode, finding);
  count_labels(labels, finding.file_values);
  const LabelMapper& mapper = *dataset.mapper();
  const auto bad = mapper.map(labels);
  count_labels(labels, finding.classes);
  if (!bad) return;
  int64_t pixels = 0;
  std::vector<int> values;
  for (int value = 0; value < 256; ++value) {
    const int64_t count = finding.file_values[size_t(value)];
    if (mapper[value] != LabelMapper::kOutOfRange || count == 0) continue;
    pixels += count;
    values.push_back(value);
  }
  finding.problems.push_back({.kind = DataProblem::Kind::kLabelOutOfRange,
                              .file = files.labels.string(),
                              .message = bad->words() + " is out of range (allowed: " + mapper.allowed() + "); " + std::to_string(pixels) +
                                         " such pixels, with the values " + joined(values),
                              .hint = "correct the file, or say in data.label_map what the values mean",
                              .x = bad->x,
                              .y = bad->y,
                              .value = bad->value,
                              .pixels = pixels});
}

Finding inspect_sample(const Dataset& dataset, int64_t index, bool decode) {
  Finding finding;
  if (dataset.files(index) != nullptr) {
    inspect_files(dataset, index, decode, finding);
    return finding;
  }
  try {
    const RawSample sample = dataset.load(index);
    finding.image_mode = "generated RGB 8 bits";
    finding.label_mode = "generated 8 bits";
    finding.size = {sample.image.width, sample.image.height};
    count_labels(sample.labels, finding.file_values);
    finding.classes = finding.file_values;
    finding.pixels = sums_of(sample.image);
  } catch (const Error& error) {
    finding.problems.push_back(unreadable(error, dataset.describe(index)));
  }
  return finding;
}

void merge(DataReport& report, Finding& finding) {
  ++report.inspected;
  if (!finding.image_mode.empty()) ++report.image_modes[finding.image_mode];
  if (!finding.label_mode.empty()) ++report.label_modes[finding.label_mode];
  if (finding.size[0] > 0) ++report.sizes[finding.size];
  for (size_t value = 0; value < 256; ++value) {
    report.file_values[value] += finding.file_values[value];
    report.total_pixels += finding.classes[value];
  }
  const int64_t labelled = std::accumulate(finding.classes.begin(), finding.classes.end(), int64_t{0}) - finding.classes[kIgnoreIndex];
  for (size_t c = 0; c < report.class_names.size(); ++c) {
    report.class_pixels[c] += finding.classes[c];
    if (finding.classes[c] == 0) continue;
    ++report.class_samples[c];
    report.class_surroundings[c] += labelled;
  }
  report.pixels.add(finding.pixels);
  report.ignored_pixels += finding.classes[kIgnoreIndex];
  for (DataProblem& problem : finding.problems) {
    ++report.problem_count;
    if (report.problems.size() < DataReport::kMaxProblems) report.problems.push_back(std::move(problem));
  }
}

// 0 .. size-1 in an order in which every beginning is spread over the whole: the first `evenly` at equal distances,
// then the rest in order.
std::vector<int64_t> spread_order(int64_t size, int64_t evenly, int64_t most) {
  std::vector<int64_t> order;
  std::vector<bool> taken(static_cast<size_t>(size), false);
  for (int64_t i = 0; i < evenly; ++i) {
    order.push_back(i * size / evenly);
    taken[size_t(order.back())] = true;
  }
  // The others with a stride that visits all of them, so that going on stays spread too.
  int64_t stride = std::max<int64_t>(1, size * 5 / 8);
  while (std::gcd(stride, size) != 1) ++stride;
  for (int64_t i = 0, index = 0; i < size && int64_t(order.size()) < most; ++i, index = (index + stride) % size) {
    if (!taken[size_t(index)]) order.push_back(index);
  }
  return order;
}

}  // namespace

void PixelSums::add(const PixelSums& other) {
  count += other.count;
  for (size_t c = 0; c < 3; ++c) sum[c] += other.sum[c], squares[c] += other.squares[c];
}

std::array<double, 3> PixelSums::mean() const {
  std::array<double, 3> mean;
  for (size_t c = 0; c < 3; ++c) mean[c] = double(sum[c]) / double(count);
  return mean;
}

std::array<double, 3> PixelSums::std() const {
  std::array<double, 3> std;
  for (size_t c = 0; c < 3; ++c) std[c] = std::sqrt(std::max(0.0, double(squares[c]) / double(count) - mean()[c] * mean()[c]));
  return std;
}

std::vector<double> balancing_weights(const DataReport& report) {
  std::vector<double> frequencies, weights;
  const auto frequency = [&](size_t c) { return double(report.class_pixels[c]) / double(report.class_surroundings[c]); };
  for (size_t c = 0; c < report.class_pixels.size(); ++c) {
    if (report.class_pixels[c] > 0) frequencies.push_back(frequency(c));
  }
  std::sort(frequencies.begin(), frequencies.end());
  const size_t count = frequencies.size();
  const double median = count == 0 ? 1 : (frequencies[(count - 1) / 2] + frequencies[count / 2]) / 2;
  for (size_t c = 0; c < report.class_pixels.size(); ++c) weights.push_back(report.class_pixels[c] > 0 ? median / frequency(c) : 1);
  return weights;
}

std::vector<int64_t> DataReport::absent_classes() const {
  std::vector<int64_t> absent;
  for (size_t c = 0; c < class_pixels.size(); ++c) {
    if (class_pixels[c] == 0) absent.push_back(int64_t(c));
  }
  return absent;
}

DataReport inspect_dataset(const Dataset& dataset, const InspectOptions& options) {
  DataReport report;
  report.size = dataset.size();
  report.class_names = dataset.class_names();
  report.class_pixels.resize(report.class_names.size());
  report.class_samples.resize(report.class_names.size());
  report.class_surroundings.resize(report.class_names.size());
  if (const LabelMapper* mapper = dataset.mapper()) report.ignores_255 = (*mapper)[255] == kIgnoreIndex;
  const bool endless = report.size == Dataset::kEndless;  // then its beginning is inspected
  const int64_t reach = endless ? std::max(options.samples > 0 ? options.samples : kEndlessSamples, options.extend_to) : report.size;
  const int64_t first = options.samples > 0 ? std::min(options.samples, reach) : endless ? kEndlessSamples : reach;
  const int64_t most = std::min(reach, std::max(first, options.extend_to));
  const std::vector<int64_t> order = spread_order(reach, first, most);
  int64_t wanted = first;
  while (report.inspected < wanted) {
    const int64_t begin = report.inspected, count = std::min(kRound, wanted - begin);
    std::vector<Finding> findings(static_cast<size_t>(count));
    parallel_for(count, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) findings[size_t(i)] = inspect_sample(dataset, order[size_t(begin + i)], begin + i < first);
    });
    for (Finding& finding : findings) merge(report, finding);
    if (options.on_progress) options.on_progress(report.inspected, wanted);
    if (report.inspected == wanted && wanted < most && !report.absent_classes().empty()) wanted = std::min(most, wanted + kRound);
  }
  return report;
}

namespace {

void check_files(const DataReport& report) {
  if (report.problem_count == 0) return;
  const DataProblem& first = report.problems.front();
  const std::string others = report.problem_count > 1 ? " (the first of " + std::to_string(report.problem_count) + " problems in the " +
                                                            std::to_string(report.inspected) + " samples inspected)"
                                                      : "";
  throw DataError(first.message + others, first.file, first.hint + (others.empty() ? "" : "; inspect data lists all problems"));
}

// Where 255 is ignored and may have been meant as a class: how much of it there is, and the map that makes it one.
struct White {
  std::string share, hint;
};

White white_of(const DataReport& report, const std::vector<int64_t>& absent) {
  const int64_t white = report.file_values[255];
  if (!report.ignores_255 || white == 0) return {};
  const std::string share = std::to_string(std::max<int64_t>(1, 100 * white / report.total_pixels)) + " % of the pixels";
  const auto& values = report.file_values;
  if (std::all_of(values.begin() + 1, values.end() - 1, [](int64_t count) { return count == 0; })) {
    return {"; the files hold nothing but 0 and 255, which is ignored: " + share,
            "masks of 0 and 255 need two classes and data.label_map {\"0\": 0, \"255\": 1}"};
  }
  if (absent.size() != 1) return {};
  return {"; " + share + " are 255, which is ignored",
          "if 255 means that class, set data.label_map to {\"255\": " + std::to_string(absent[0]) + ", \"other\": \"keep\"}"};
}

}  // namespace

std::optional<DataError> odd_classes(const DataReport& report) {
  const std::string where = "the labels of the " + counted(report.inspected, "sample") + " inspected";
  const std::string override = "; if the data is as it should be, set data.checks to \"files\"";
  const auto absent = report.absent_classes();
  const White white = white_of(report, absent);
  // Before the classes: where nearly all is ignored, most classes are absent for that very reason.
  if (report.ignored_share() > kMostIgnored) {
    return DataError(std::to_string(int(report.ignored_share() * 100)) + " % of the pixels are ignored" + white.share, where,
                     (white.hint.empty() ? "check data.label_map" : white.hint) + override);
  }
  if (!absent.empty()) {
    std::vector<std::string> names;
    for (size_t i = 0; i < absent.size() && i < 10; ++i) {
      names.push_back(std::to_string(absent[i]) + " " + report.class_names[size_t(absent[i])]);
    }
    if (absent.size() > 10) names.push_back("...");
    const std::string share = std::to_string(absent.size()) + " of " + std::to_string(report.class_names.size());
    return DataError(share + " classes never occur: " + joined(names) + white.share, where,
                     (white.hint.empty() ? "check data.label_map and data.classes" : white.hint) + override);
  }
  return std::nullopt;
}

void check_report(const DataReport& report) {
  check_files(report);
  if (const auto odd = odd_classes(report)) throw *odd;
}

DataReport check_before_training(const Dataset& dataset, DataChecks checks) {
  if (checks == DataChecks::kNone) return {};
  DataReport report = inspect_dataset(dataset, {.samples = 128, .extend_to = 4096});
  checks == DataChecks::kFiles ? check_files(report) : check_report(report);
  return report;
}

DataReport check_before_evaluation(const Dataset& dataset) {
  DataReport report = inspect_dataset(dataset, {.samples = 512});
  check_files(report);
  return report;
}

}  // namespace eq
