#pragma once
// Data sets of picture and label files. The type "folders" is described wholly by the configuration; the named layouts
// (camvid, voc2012, ade20k, cityscapes) only find the files and bring names, colours and a label map.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/errors.h"
#include "datasets/dataset.h"

namespace eq {

// What a layout brings; anything the options give replaces it.
struct LayoutDefaults {
  std::vector<std::string> classes;
  Palette palette;  // may be empty: the PASCAL VOC colours
  LabelMapOptions label_map;
};

class Random;

struct FilePairs {
  std::vector<SampleFiles> files;
  std::vector<std::string> left_out;  // Dataset::left_out
};

class FileDataset final : public Dataset {
 public:
  // Throws UsageError for options that make no sense and IoError for files that do not exist: the first one, and how many.
  FileDataset(FilePairs pairs, const DataOptions& options, const LayoutDefaults& defaults);
  int64_t size() const override { return int64_t(files_.size()); }
  RawSample load(int64_t index) const override;
  std::string describe(int64_t index) const override;
  const SampleFiles* files(int64_t index) const override;
  const LabelMapper* mapper() const override { return &mapper_; }
  LabelMap load_file_labels(int64_t index) const override;
  std::vector<std::string> left_out() const override { return left_out_; }

 private:
  std::vector<SampleFiles> files_;
  std::vector<std::string> left_out_;
  LabelMapper mapper_;
  Palette file_colors_;  // of label_colors
};

std::unique_ptr<Dataset> make_folders(const DataOptions& options, const std::string& split);

// What is wrong where a picture and its labels differ in size, and what to do about it.
DataError size_mismatch(const PictureInfo& picture, const LabelMap& labels, const std::string& where);

// --- for the layouts ---

// The root as a folder; throws UsageError when it is not given and IoError when it is not there.
std::filesystem::path data_root(const DataOptions& options);
// Throws IoError naming the folder unless it is there; `hint` says what the layout expects.
void require_folder(const std::filesystem::path& folder, const std::string& hint);

// The files below a folder, however deep, by their paths in it, sorted; what is hidden (its name, or a folder's on the way, begins with a
// dot) apart. Throws IoError.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder);

// The non-empty lines of a list, split at a tab if the line has one, else at blanks. Throws IoError (missing) and
// DataError (no line, more than `most` columns, fewer than `least`), with the line's number.
std::vector<std::vector<std::string>> read_list(const std::filesystem::path& file, size_t least, size_t most,
                                                const std::string& expected);
// A name of a list: relative to `root`, with or without a '/' in front, or the absolute path of a file.
std::filesystem::path listed_file(const std::filesystem::path& root, const std::string& name);
// Of lines "image label".
FilePairs pairs_from_list(const std::filesystem::path& root, const std::filesystem::path& file);
// Every file under `images` whose name ends in one of image_suffixes, whatever their case, sorted by path, with the file of the same
// relative path under `labels` whose suffix is label_suffix; the others are left out. Both may be one folder: a label file is no picture,
// whatever its ending. Throws IoError (missing folder) and DataError (no
// image).
FilePairs pairs_from_folders(const std::filesystem::path& images, const std::filesystem::path& labels,
                             const std::vector<std::string>& image_suffixes, const std::string& label_suffix);
// Of those pairs the ones whose images a list names, in its order: a line each, the path below `images` with or without the suffix. Throws
// DataError for names that no image has.
FilePairs pairs_in_list(FilePairs pairs, const std::filesystem::path& images, const std::vector<std::string>& image_suffixes,
                        const std::filesystem::path& list);
// Brings `count` of the values, drawn, to the front, in the order in which they are drawn. The same on every machine.
void draw_to_front(std::vector<size_t>& values, size_t count, Random& random);
// Splits them in two: `fraction` of them, at least one, drawn by the seed, are what `drawn` keeps, the rest what it does not. The same on
// every machine; the order stays. Throws DataError where one part would be empty.
FilePairs drawn_part(FilePairs pairs, double fraction, uint64_t seed, bool drawn);

}  // namespace eq
