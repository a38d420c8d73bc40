#include "datasets/folders.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>

#include "core/errors.h"
#include "core/file.h"
#include "core/limits.h"
#include "core/random.h"
#include "core/words.h"

namespace eq {
namespace fs = std::filesystem;
namespace {

const LabelMapOptions& chosen_map(const DataOptions& options, const LayoutDefaults& defaults) {
  return options.label_map.is_given() ? options.label_map : defaults.label_map;
}

const std::vector<std::string>& chosen_classes(const DataOptions& options, const LayoutDefaults& defaults) {
  const auto& classes = options.classes.empty() ? defaults.classes : options.classes;
  if (classes.empty()) {
    throw UsageError("the classes are not named", "data.classes", "give their names in the order of their indices");
  }
  return classes;
}

Palette chosen_palette(const DataOptions& options, const LayoutDefaults& defaults) {
  return palette_for(options.palette.empty() ? defaults.palette : options.palette, chosen_classes(options, defaults).size());
}

bool is_file(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored);
}

[[noreturn]] void refuse_file(const fs::path& file, const std::string& others, const std::string& hint) {
  std::error_code error, ignored;
  const bool folder = fs::is_directory(file, error), link = fs::is_symlink(file, ignored);
  const bool strange = error && error != std::errc::no_such_file_or_directory;
  throw IoError((folder    ? "this is a folder, not a file"
                 : strange ? "the file cannot be read: " + error.message()
                 : link    ? "this is a link to a file that does not exist"
                           : "the file does not exist") +
                    others,
                file.string(), hint);
}

}  // namespace

FileDataset::FileDataset(FilePairs pairs, const DataOptions& options, const LayoutDefaults& defaults)
    : Dataset(chosen_classes(options, defaults), chosen_palette(options, defaults)),
      files_(std::move(pairs.files)),
      left_out_(std::move(pairs.left_out)),
      mapper_(chosen_map(options, defaults), num_classes()) {
  if (options.label_colors) {
    if (options.palette.empty() && defaults.palette.empty()) {
      throw UsageError("label_colors needs the colours", "data.palette", "give the colour of each label value");
    }
    file_colors_ = palette();
  }
  std::vector<std::string> bad;
  const SampleFiles* first = nullptr;
  for (const SampleFiles& pair : files_) {
    for (const fs::path* file : {&pair.image, &pair.labels}) {
      if (is_file(*file)) continue;
      bad.push_back(file->filename().string());
      if (first == nullptr) first = &pair;
    }
  }
  if (first == nullptr) return;
  const std::string others = bad.size() == 1 ? "" : "; so it is with " + std::to_string(bad.size()) + " files of the set: " + some_of(bad);
  if (!is_file(first->image)) refuse_file(first->image, others, "check data.root and the list of images");
  refuse_file(first->labels, others, "every image needs a label file; this one belongs to " + first->image.string());
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
    throw size_mismatch(probe_picture(pair.image), sample.labels, pair.image.string() + " and " + pair.labels.string());
  }
  mapper_.map_or_throw(sample.labels, pair.labels.string());
  sample.name = pair.image.stem().string();
  return sample;
}

DataError size_mismatch(const PictureInfo& picture, const LabelMap& labels, const std::string& where) {
  const std::string sizes =
      "the image is " + size_text(picture.width, picture.height) + " and its labels are " + size_text(labels.width, labels.height);
  if (picture.turned && picture.width == labels.height && picture.height == labels.width) {
    return {sizes + ": its EXIF orientation turns the image, and the labels are not turned", where,
            "turn the labels as well, or, if they fit the image as it is stored, remove its tag (exiftool -Orientation=)"};
  }
  return {sizes, where, "make them one size (labels by nearest neighbour), or correct which label belongs to the image"};
}

fs::path data_root(const DataOptions& options) {
  const fs::path root = options.root;
  std::string hint = "set data.root to the folder that holds the data set";
  if (root.empty()) throw UsageError("data.type \"" + options.type + "\" needs a folder", "data.root", hint);
  std::error_code ignored;
  if (root.is_relative()) hint += "; this path begins at the current folder, " + fs::current_path(ignored).string();
  require_folder(root, hint);
  return root;
}

void require_folder(const fs::path& folder, const std::string& hint) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (fs::is_directory(status)) return;
  if (status.type() == fs::file_type::none) {
    throw IoError("the folder cannot be examined: " + error.message(), folder.string(),
                  "check the path and the permissions of the folders in it");
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
      column.erase(0, column.find_first_not_of(' '));
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

fs::path listed_file(const fs::path& root, const std::string& name) {
  const size_t begin = name.find_first_not_of('/');
  return begin == 0 || begin == std::string::npos || is_file(name) ? root / name : root / name.substr(begin);  // root / "/x" is "/x"
}

FilePairs pairs_from_list(const fs::path& root, const fs::path& file) {
  FilePairs pairs;
  for (const auto& row : read_list(file, 2, 2, "an image and its label file")) {
    pairs.files.push_back({listed_file(root, row[0]), listed_file(root, row[1])});
  }
  return pairs;
}

namespace {

// A path without the longest suffix that ends it, whatever the case; none if none does.
std::optional<std::string> without_suffix(const std::string& path, const std::vector<std::string>& suffixes) {
  std::optional<std::string> shortest;
  for (const std::string& suffix : suffixes) {
    if (lower(path).ends_with(lower(suffix)) && (!shortest || suffix.size() > path.size() - shortest->size())) {
      shortest = path.substr(0, path.size() - suffix.size());
    }
  }
  return shortest;
}

}  // namespace

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  try {
    auto entry = fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink);
    for (; entry != fs::recursive_directory_iterator(); ++entry) {
      const bool hidden = entry->path().filename().string().starts_with("."), below = entry->is_directory();
      if (below && hidden) entry.disable_recursion_pending();
      if (!below && !hidden) files.push_back(entry->path().lexically_relative(folder));
    }
  } catch (const fs::filesystem_error& error) {
    const fs::path& what = error.path1().empty() ? folder : error.path1();  // a folder in it, or a link
    throw IoError("the folder cannot be read: " + error.code().message(), what.string(),
                  "check the permissions of the folders in it, and links that lead to themselves");
  }
  std::sort(files.begin(), files.end());
  return files;
}

FilePairs pairs_from_folders(const fs::path& images, const fs::path& labels, const std::vector<std::string>& image_suffixes,
                             const std::string& label_suffix) {
  require_folder(images, "this is where the images should be");
  require_folder(labels, "this is where the label files should be");
  std::map<std::string, fs::path> label_of;       // by what is left of it
  std::map<fs::path, std::string> stem_of_label;  // the other way
  for (const fs::path& file : files_below(labels)) {
    const auto stem = without_suffix(file.string(), {label_suffix});
    if (!stem) continue;
    stem_of_label[(labels / file).lexically_normal()] = *stem;
    if (!label_of.contains(*stem) || file.string().ends_with(label_suffix)) label_of[*stem] = labels / file;
  }
  std::vector<std::pair<fs::path, std::string>> candidates;
  std::set<std::string> stems;
  std::vector<std::string> others, alone;
  for (const fs::path& file : files_below(images)) {
    if (const auto stem = without_suffix(file.string(), image_suffixes)) {
      candidates.emplace_back(file, *stem);
      stems.insert(*stem);
    } else {
      others.push_back(file.string());
    }
  }
  // Where pictures and labels share a folder, a label's name may end as a picture's does. It is no picture if it belongs to one, itself
  // included, nor if it has no label.
  const auto is_label = [&](const fs::path& file, const std::string& stem) {
    const auto label = stem_of_label.find((images / file).lexically_normal());
    if (label == stem_of_label.end()) return false;
    return stems.contains(label->second) || !label_of.contains(stem);
  };
  FilePairs pairs;
  std::set<fs::path> used;
  for (const auto& [file, stem] : candidates) {
    if (is_label(file, stem)) continue;
    const auto label = label_of.find(stem);
    pairs.files.push_back({images / file, label == label_of.end() ? labels / (stem + label_suffix) : label->second});
    used.insert({pairs.files.back().image.lexically_normal(), pairs.files.back().labels.lexically_normal()});
  }
  const std::string suffixes = joined(image_suffixes, " or ");
  if (pairs.files.empty() && !candidates.empty()) {
    throw DataError("all files whose names end in " + suffixes + " are label files, ending in " + label_suffix, images.string(),
                    "check the folders, data.folders.image_suffix and label_suffix: no file is a picture and its own label");
  }
  if (pairs.files.empty()) {
    throw DataError("the folder holds no file whose name ends in " + suffixes, images.string(),
                    "check the folder and data.folders.image_suffix");
  }
  for (const auto& [stem, file] : label_of) {  // before the others: pictures and labels may share a folder
    if (used.insert(file.lexically_normal()).second) alone.push_back(file.lexically_relative(labels).string());
  }
  std::erase_if(others, [&](const std::string& file) { return used.contains((images / file).lexically_normal()); });
  if (!others.empty()) {
    pairs.left_out.push_back("left out of " + images.string() + ", not ending in " + suffixes + ": " + some_of(others));
  }
  if (!alone.empty()) pairs.left_out.push_back("label files without a picture in " + labels.string() + ": " + some_of(alone));
  return pairs;
}

FilePairs pairs_in_list(FilePairs pairs, const fs::path& images, const std::vector<std::string>& image_suffixes, const fs::path& list) {
  std::map<std::string, size_t> by_name;
  for (size_t i = 0; i < pairs.files.size(); ++i) {
    const std::string name = pairs.files[i].image.lexically_relative(images).string();
    by_name.emplace(name, i);
    if (const auto stem = without_suffix(name, image_suffixes)) by_name.emplace(*stem, i);
  }
  FilePairs chosen;
  std::vector<std::string> unknown;
  std::set<size_t> used;
  for (const auto& row : read_list(list, 1, SIZE_MAX, "the name of an image")) {
    const std::string name = joined(row, " ");  // names may hold blanks
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      unknown.push_back(name);
      continue;
    }
    chosen.files.push_back(pairs.files[found->second]);
    used.insert(found->second);
  }
  if (!unknown.empty()) {
    throw DataError("the list names what is no picture of " + images.string() + ": " + some_of(unknown), list.string(),
                    "write the name of a picture on each line, with or without its suffix");
  }
  chosen.left_out = std::move(pairs.left_out);
  if (const size_t others = pairs.files.size() - used.size(); others > 0) {
    chosen.left_out.push_back("not in " + list.string() + ": " + counted(int64_t(others), "picture") + " of " + images.string());
  }
  return chosen;
}

void draw_to_front(std::vector<size_t>& values, size_t count, Random& random) {
  for (size_t i = 0; i < count; ++i) std::swap(values[i], values[size_t(random.uniform_int(int64_t(i), int64_t(values.size())))]);
}

FilePairs drawn_part(FilePairs pairs, double fraction, uint64_t seed, bool drawn) {
  const size_t all = pairs.files.size(), count = std::max<size_t>(1, size_t(fraction * double(all) + 0.5));
  if (count >= all) {
    throw DataError("of " + counted(int64_t(all), "picture") + " none would be left to train on",
                    all == 0 ? "the training split" : pairs.files[0].image.string(), "lower data.val_fraction, or add pictures");
  }
  std::vector<size_t> order(all);
  std::iota(order.begin(), order.end(), size_t{0});
  Random random(seed);
  draw_to_front(order, count, random);
  const std::set<size_t> taken(order.begin(), order.begin() + std::ptrdiff_t(count));
  FilePairs part;
  for (size_t i = 0; i < all; ++i) {
    if (taken.contains(i) == drawn) part.files.push_back(std::move(pairs.files[i]));
  }
  if (drawn) return part;
  part.left_out = std::move(pairs.left_out);
  part.left_out.push_back(std::to_string(count) + " of " + counted(int64_t(all), "picture") +
                          " were drawn to evaluate on (data.val_fraction, split_seed " + std::to_string(seed) + ")");
  return part;
}

namespace {

bool has_files(const DataOptions& options, const std::string& split) {
  return options.list.contains(split) || options.folders.contains(split);
}

// A split's own files.
FilePairs pairs_of(const DataOptions& options, const fs::path& root, const std::string& split) {
  const auto list = options.list.find(split);
  const auto pair = options.folders.find(split);
  if (!has_files(options, split)) {
    throw UsageError("the split '" + split + "' has neither a list nor folders", "data.list." + split + ", data.folders." + split,
                     split == "val" ? "give one of them, or data.val_fraction, to draw it from train" : "give one of them");
  }
  if (pair == options.folders.end()) return pairs_from_list(root, root / list->second);
  const auto below = [&](const std::string& name) { return name == "." ? root : root / name; };
  const fs::path images = below(pair->second.images);
  FilePairs pairs = pairs_from_folders(images, below(pair->second.labels), options.image_suffix, options.label_suffix);
  if (list == options.list.end()) return pairs;
  return pairs_in_list(std::move(pairs), images, options.image_suffix, root / list->second);
}

}  // namespace

std::unique_ptr<Dataset> make_folders(const DataOptions& options, const std::string& split) {
  const fs::path root = data_root(options);
  const bool draws = options.val_fraction > 0;
  if (draws && has_files(options, "val")) {
    throw UsageError("val has files of its own, and would be drawn from train's", "data.val_fraction", "give one of them");
  }
  FilePairs files = pairs_of(options, root, draws && split == "val" ? "train" : split);
  if (draws && (split == "train" || split == "val")) {
    files = drawn_part(std::move(files), options.val_fraction, uint64_t(options.split_seed), split == "val");
  }
  return std::make_unique<FileDataset>(std::move(files), options, LayoutDefaults{});
}

}  // namespace eq
