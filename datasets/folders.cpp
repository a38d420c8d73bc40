#include "datasets/folders.h"

#include <algorithm>
#include <sstream>

#include "core/errors.h"
#include "core/file.h"
#include "core/limits.h"

namespace eq {
namespace fs = std::filesystem;
namespace {

std::string size_text(int64_t width, int64_t height) { return std::to_string(width) + "x" + std::to_string(height); }

const LabelMapOptions& chosen_map(const DataOptions& options, const LayoutDefaults& defaults) {
  const bool given = !options.label_map.preset.empty() || !options.label_map.entries.empty();
  return given ? options.label_map : defaults.label_map;
}

const std::vector<std::string>& chosen_classes(const DataOptions& options, const LayoutDefaults& defaults) {
  const auto& classes = options.classes.empty() ? defaults.classes : options.classes;
  if (classes.empty()) {
    throw UsageError("the classes are not named", "data.classes", "give their names in the order of their indices");
  }
  return classes;
}

Palette chosen_palette(const DataOptions& options, const LayoutDefaults& defaults) {
  Palette palette = options.palette.empty() ? defaults.palette : options.palette;
  const size_t classes = chosen_classes(options, defaults).size();
  if (palette.empty()) palette = voc_palette();
  if (palette.size() < classes) {
    throw UsageError("there are " + std::to_string(palette.size()) + " colours for " + std::to_string(classes) + " classes",
                     "data.palette", "give a colour for each class, or none at all");
  }
  return palette;
}

void require_file(const fs::path& file, const std::string& hint) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) {
    if (fs::is_directory(file, error)) throw IoError("this is a folder, not a file", file.string(), hint);
    throw IoError(error && error != std::errc::no_such_file_or_directory ? "the file cannot be read: " + error.message()
                                                                         : "the file does not exist",
                  file.string(), hint);
  }
}

}  // namespace

FileDataset::FileDataset(std::vector<SampleFiles> files, const DataOptions& options, const LayoutDefaults& defaults)
    : Dataset(chosen_classes(options, defaults), chosen_palette(options, defaults)),
      files_(std::move(files)),
      mapper_(chosen_map(options, defaults), num_classes()) {
  if (options.label_colors) {
    if (options.palette.empty() && defaults.palette.empty()) {
      throw UsageError("label_colors needs the colours", "data.palette", "give the colour of each label value");
    }
    file_colors_ = palette();
  }
  for (const SampleFiles& pair : files_) {
    require_file(pair.image, "check data.root and the list of images");
    require_file(pair.labels, "every image needs a label file; this one belongs to " + pair.image.string());
  }
}

const SampleFiles* FileDataset::files(int64_t index) const {
  check_index(index);
  return &files_[size_t(index)];
}

std::string FileDataset::describe(int64_t index) const { return files(index)->image.string(); }

LabelMap FileDataset::load_file_labels(int64_t index) const { return read_label_map(files(index)->labels, file_colors_); }

RawSample FileDataset::load(int64_t index) const {
  const SampleFiles& pair = *files(index);
  RawSample sample;
  sample.image = read_image(pair.image);
  sample.labels = load_file_labels(index);
  if (sample.image.width != sample.labels.width || sample.image.height != sample.labels.height) {
    throw DataError("the image is " + size_text(sample.image.width, sample.image.height) + " and its labels are " +
                        size_text(sample.labels.width, sample.labels.height),
                    pair.image.string() + " and " + pair.labels.string(),
                    "make them one size (labels by nearest neighbour), or correct which label belongs to the image");
  }
  mapper_.map_or_throw(sample.labels, pair.labels.string());
  sample.name = pair.image.stem().string();
  return sample;
}

fs::path data_root(const DataOptions& options) {
  if (options.root.empty()) {
    throw UsageError("the data set " + options.type + " needs a folder", "data.root", "set data.root to where the data set is");
  }
  require_folder(options.root, "set data.root to where the data set " + options.type + " is");
  return options.root;
}

void require_folder(const fs::path& folder, const std::string& hint) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (fs::is_directory(status)) return;
  if (status.type() == fs::file_type::none) {
    throw IoError("the folder cannot be examined: " + error.message(), folder.string(), "check the path and the permissions of the folders in it");
  }
  throw IoError(fs::exists(status) ? "this is not a folder" : "the folder does not exist", folder.string(), hint);
}

std::vector<std::vector<std::string>> read_list(const fs::path& file, size_t least, size_t most, const std::string& expected) {
  std::istringstream text(read_text(file, limits::kListFileBytes));
  std::vector<std::vector<std::string>> rows;
  int64_t number = 0;
  for (std::string line; std::getline(text, line);) {
    if (++number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);  // a byte order mark
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::istringstream columns(line);
    std::vector<std::string> row;
    const bool tabs = line.find('\t') != std::string::npos;
    for (std::string column; tabs ? bool(std::getline(columns, column, '\t')) : bool(columns >> column);) {
      while (!column.empty() && column.back() == ' ') column.pop_back();
      column.erase(0, column.find_first_not_of(" /"));
      if (!column.empty()) row.push_back(column);
    }
    if (row.empty()) continue;
    if (row.size() < least || row.size() > most) {
      throw DataError("line " + std::to_string(number) + " has " + std::to_string(row.size()) +
                          (row.size() == 1 ? " column" : " columns") + ": " + line.substr(0, 200),
                      file.string(), "write " + expected + " on each line; separate them by a tab where names hold blanks");
    }
    rows.push_back(std::move(row));
  }
  if (rows.empty()) throw DataError("the list is empty", file.string(), "write " + expected + " on each line");
  return rows;
}

std::vector<SampleFiles> pairs_from_list(const fs::path& root, const fs::path& file) {
  std::vector<SampleFiles> pairs;
  for (const auto& row : read_list(file, 2, 2, "an image and its label file")) pairs.push_back({root / row[0], root / row[1]});
  return pairs;
}

std::vector<SampleFiles> pairs_from_folders(const fs::path& images, const fs::path& labels, const std::string& image_suffix,
                                            const std::string& label_suffix) {
  require_folder(images, "this is where the images should be");
  require_folder(labels, "this is where the label files should be");
  std::vector<SampleFiles> pairs;
  try {
    for (const auto& entry : fs::recursive_directory_iterator(images, fs::directory_options::follow_directory_symlink)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(image_suffix) || !entry.is_regular_file()) continue;
      const fs::path below = entry.path().lexically_relative(images).parent_path();
      pairs.push_back({entry.path(), labels / below / (name.substr(0, name.size() - image_suffix.size()) + label_suffix)});
    }
  } catch (const fs::filesystem_error& error) {
    throw IoError("the folder cannot be read: " + error.code().message(), images.string(), "check its permissions");
  }
  if (pairs.empty()) {
    throw DataError("the folder holds no file whose name ends in " + image_suffix, images.string(),
                    "check the folder and data.folders.image_suffix");
  }
  std::sort(pairs.begin(), pairs.end(), [](const SampleFiles& a, const SampleFiles& b) { return a.image < b.image; });
  return pairs;
}

std::unique_ptr<Dataset> make_folders(const DataOptions& options, const std::string& split) {
  const fs::path root = data_root(options);
  const auto list = options.list.find(split);
  const auto pair = options.folders.find(split);
  if ((list == options.list.end()) == (pair == options.folders.end())) {
    const bool both = list != options.list.end();
    throw UsageError(std::string("the split '") + split + "' has " + (both ? "both a list and folders" : "neither a list nor folders"),
                     "data.list." + split + ", data.folders." + split, "give one of them");
  }
  std::vector<SampleFiles> files =
      list != options.list.end() ? pairs_from_list(root, root / list->second)
                                 : pairs_from_folders(root / pair->second.images, root / pair->second.labels,
                                                      options.image_suffix, options.label_suffix);
  return std::make_unique<FileDataset>(std::move(files), options, LayoutDefaults{});
}

}  // namespace eq
