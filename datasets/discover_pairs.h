#pragma once
// How label files' names could follow from those of pictures, in a folder that nobody has described.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace eq {

// In names of folders and files: what says that labels are in them.
inline constexpr const char* kLabelWords[] = {"mask", "label", "annot", "segm", "truth", "gt"};

// What a folder's name says of a split: train, train_images, masks-val, trainannot, val2017.
struct SplitName {
  std::string split;    // "train", "val" or "test"; empty: none
  std::string pattern;  // the name, with "*" for the split
};

struct FoundFile {
  explicit FoundFile(const std::filesystem::path& below_root);
  // The place of its first folder that names a split; -1: none does.
  int split_place() const;

  std::filesystem::path path;        // below the root
  std::vector<std::string> folders;  // of the path
  std::vector<SplitName> splits;     // of each of these
  std::string name, stem, ending;    // the last in lower case, with its dot
};

// How a label file's path follows from its picture's: which folders one has and the other has not (of a/images/1.jpg and masks/a/1.png
// "images" and "masks"; none: they share the folder), and what stands in the names before and behind the part that both have. The name of a
// split is "*", so that train, train_labels and val, val_labels are one relation.
struct PairRelation {
  std::vector<std::string> picture_folders, label_folders;
  std::string picture_prefix, label_prefix;
  std::string picture_suffix;  // without the ending, in lower case
  std::string label_suffix;    // with it, in lower case
  auto operator<=>(const PairRelation&) const = default;
};

struct FoundPair {
  size_t picture, label;  // of the files
  size_t below;           // folders that end both paths
};

// What may be a picture and what may be a label, by their places in a list of files.
struct PairCandidates {
  std::vector<size_t> pictures, labels;
};

// Every way in which label files could belong to pictures, with the pairs it makes: of all label files, or of so many as are enough.
std::map<PairRelation, std::vector<FoundPair>> find_relations(const std::vector<FoundFile>& files, const PairCandidates& candidates);

// All that the relation holds for, in the order of the label files.
std::vector<FoundPair> pairs_of(const std::vector<FoundFile>& files, const PairCandidates& candidates, const PairRelation& relation);

}  // namespace eq
