// Layouts that are known, and lists of splits.
#include <fmt/format.h>

#include "core/errors.h"
#include "datasets/discover.h"
#include "datasets/inspect.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

// What the layout is known as; empty for none.
std::string known_layout(const fs::path& root) {
  std::error_code ignored;
  const auto has = [&](const char* path) { return fs::exists(root / path, ignored); };
  if (has("annotations/training") || has("ADEChallengeData2016/annotations/training")) return "ade20k";
  if (has("gtFine") && has("leftImg8bit")) return "cityscapes";
  if (has("trainannot") && has("train.txt")) return "camvid";
  for (const std::string below : {"", "VOC2012/", "VOCdevkit/VOC2012/"}) {
    if (has((below + "ImageSets/Segmentation/train.txt").c_str()) && has((below + "SegmentationClass").c_str()) && !has("labelmap.txt")) {
      return "voc2012";
    }
  }
  return "";
}

std::vector<SampleFiles> files_of(const Dataset& set, const fs::path& root) {
  std::vector<SampleFiles> pairs;
  for (int64_t i = 0; i < set.size(); ++i) {
    const SampleFiles& pair = *set.files(i);
    pairs.push_back({pair.image.lexically_relative(root), pair.labels.lexically_relative(root)});
  }
  return pairs;
}

}  // namespace

bool discover_known(const fs::path& root, FoundData& found) {
  const std::string type = known_layout(root);
  if (type.empty()) return false;
  DataOptions options;
  options.type = type;
  options.root = root.string();
  try {
    for (const char* split : {"train", "val"}) {
      const auto set = make_dataset(options, split);
      const DataReport report = inspect_dataset(*set, {.samples = 32});
      if (report.problem_count > 0) {
        throw DataError(report.problems[0].message, report.problems[0].file, report.problems[0].hint);
      }
      found.pairs[split] = files_of(*set, root);
      found.looked_into += report.inspected;
      for (const auto& [size, count] : report.sizes) found.sizes[size] += count;
    }
  } catch (const Error& error) {
    found = {};
    found.remarks.push_back(
        fmt::format("the folders are those of {}, but not its files: {}", type, error.what_happened() + " (" + error.where() + ")"));
    return false;
  }
  found.options = options;
  return true;
}

void take_lists(const fs::path& root, FoundData& found) {
  std::error_code ignored;
  for (const fs::path folder : {"", "ImageSets/Segmentation", "splits"}) {
    const auto list_of = [&](const std::string& split) { return (folder / (split + ".txt")).generic_string(); };
    if (!fs::is_regular_file(root / list_of("train"), ignored)) continue;
    const auto not_used = [&](const std::string& why) { found.remarks.push_back(list_of("train") + " was not used: " + why); };
    if (found.options.folders.empty()) {
      not_used("the pictures must be listed");
      continue;
    }
    DataOptions options = found.options;
    options.val_fraction = 0;
    options.classes = {"any", "other"};  // pictures are paired, not read
    std::map<std::string, std::vector<SampleFiles>> pairs;
    try {
      for (const std::string split : {"train", "val"}) {
        options.folders[split] = found.options.folders.at("train");
        options.list[split] = list_of(split);
        pairs[split] = files_of(*make_dataset(options, split), root);
      }
    } catch (const Error& error) {
      not_used(error.what_happened());
      continue;
    }
    found.options.val_fraction = 0;
    found.options.folders = options.folders;
    found.options.list = options.list;
    found.pairs = pairs;
    found.remarks.push_back(fmt::format("{} and val.txt choose the pictures of each split", list_of("train")));
    return;
  }
}

}  // namespace eq
