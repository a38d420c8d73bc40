#pragma once
// Finds the pictures and label files of a folder that nobody has described yet, and what a configuration would say of them.

#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "datasets/folders.h"

namespace eq {

struct DiscoverOptions {
  // Folders below the root that pictures, or labels, must be in, named from it or from where the program runs; empty: anywhere.
  std::string images = {}, labels = {};
  int64_t samples = 500;       // label files and pictures that are looked into, evenly spread; 0: all
};

// A value in label files, or a colour, and what it becomes.
struct FoundLabel {
  int value = -1;    // -1: labels are colours
  Color color{};     // what the file shows
  std::string name;  // of its class; empty: ignored
  int64_t pixels = 0, files = 0, train_files = 0;  // of those looked into; the last: of the training split
};

struct FoundData {
  DataOptions options;                                    // with `folders`, or without: then the pairs below are to be listed
  std::map<std::string, std::vector<SampleFiles>> pairs;  // by split, paths relative to the root
  std::vector<std::string> unlabelled;                    // pictures without a label file, relative to the root
  std::vector<FoundLabel> labels;                         // in the order of the classes, the ignored ones last; empty for a known layout
  int64_t looked_into = 0;                                // pairs
  std::map<std::array<int64_t, 2>, int64_t> sizes;        // of these, by width and height
  std::vector<std::string> remarks;                       // what was chosen where there was a choice: a sentence each
};

// Pictures and label files are paired by their names (datasets/discover_pairs.h): images/a/1.jpg, masks/a/1.png; 1.jpg, 1_mask.png. Folders
// named train, val or test are splits, or the lists train.txt and val.txt are; without them a fifth of the pictures is to be drawn for val.
// Which of two is the picture and which are the labels, their names and their pixels tell: labels have fewer colours. Class names come from
// the file `classes.txt` (a name each line), `class_dict.csv` (name,r,g,b), `labelmap.txt` (name:r,g,b:...) or `_classes.csv` (value,name),
// if the folder, or one of pictures or labels, has one that fits; classes that are named void and the like are ignored. A folder in the
// layout of a known data set is told as that. Throws IoError; UsageError for options that name no folder in it; DataError where no picture
// or no pair is found, or the labels cannot be labels.
FoundData discover_data(const std::filesystem::path& root, const DiscoverOptions& options = {});

// Its parts. Of a known data set that its files fit; false otherwise.
bool discover_known(const std::filesystem::path& root, FoundData& found);
// Lists of the names of a split's pictures that lie where sets have them: where train.txt and val.txt fit, they choose.
void take_lists(const std::filesystem::path& root, FoundData& found);
// What looks into label files: fills in `labels`, and of `options` what is said of labels and classes. The first `train_files` of the files
// are the training split's.
void discover_labels(const std::filesystem::path& root, const std::vector<std::filesystem::path>& files, size_t train_files,
                     FoundData& found);
// How many colours a picture has, counted up to `most`.
size_t count_colors(const Image& image, size_t most);

}  // namespace eq
