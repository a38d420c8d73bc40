#include "datasets/ade20k.h"

#include <sstream>

#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "datasets/folders.h"

namespace eq {
namespace {

// Rows "index ratio train val names" separated by tabs, after a row of titles; the names are synonyms separated by
// commas.
std::vector<std::string> read_class_names(const std::filesystem::path& file) {
  std::istringstream text(read_text(file, limits::kListFileBytes));
  std::vector<std::string> names;
  std::string line;
  std::getline(text, line);  // titles
  while (std::getline(text, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const size_t tab = line.rfind('\t');
    const std::string number = std::to_string(names.size() + 1);
    if (tab == std::string::npos || line.substr(0, line.find_first_of(" \t")) != number) {
      throw DataError("the row of class " + number + " is missing or malformed: " + line.substr(0, 200), file.string(),
                      "use the file that comes with ADEChallengeData2016");
    }
    std::string name = line.substr(tab + 1, line.find(',', tab) - tab - 1);
    while (!name.empty() && name.back() == ' ') name.pop_back();
    if (!is_plain_text(name)) {
      throw DataError("the name of class " + number + " is not UTF-8 or has control characters: " + quoted_for_message(name), file.string(),
                      "use the file that comes with ADEChallengeData2016");
    }
    names.push_back(name);
  }
  return names;
}

}  // namespace

std::unique_ptr<Dataset> make_ade20k(const DataOptions& options, const std::string& split) {
  namespace fs = std::filesystem;
  fs::path root = data_root(options);
  std::error_code ignored;  // what reads below says what the matter is
  if (fs::is_directory(root / "ADEChallengeData2016", ignored)) root /= "ADEChallengeData2016";
  const std::string folder = split == "train" ? "training" : split == "val" ? "validation" : "";
  if (folder.empty()) throw UsageError("ADE20K has no split '" + split + "' with labels", "data.type ade20k", "use train or val");
  LayoutDefaults defaults;
  if (options.classes.empty()) defaults.classes = read_class_names(root / "objectInfo150.txt");
  // No colours come with the data: those of PASCAL VOC from index 1 on, so that no class is black.
  Palette colors = voc_palette();
  defaults.palette.assign(colors.begin() + 1, colors.end());
  defaults.label_map = label_map_of(options);
  return std::make_unique<FileDataset>(
      pairs_from_folders(root / "images" / folder, root / "annotations" / folder, {".jpg"}, ".png"), options, defaults);
}

}  // namespace eq
