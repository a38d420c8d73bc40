// Which files are pictures, which are their labels, and which split they belong to.
#include "datasets/discover.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <tuple>
#include <unordered_map>

#include "core/errors.h"
#include "core/json.h"
#include "core/random.h"
#include "core/words.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEndings[] = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tga"};
constexpr const char* kUnreadEndings[] = {".tif", ".tiff", ".webp", ".gif", ".heic", ".jp2"};
constexpr const char* kTryFormats =
    "JPEG, PNG, PPM, PGM, BMP and TGA can be read; convert others to PNG, for example with ImageMagick's mogrify";
// In the names of folders and endings: what is no class map, and what is one, or a split's.
constexpr const char* kOtherMasks[] = {"object", "instance", "depth", "edge", "color", "rgb", "preview", "overlay", "human"};
constexpr const char* kLabelWords[] = {"mask", "label", "annot", "segm", "truth", "gt"};
constexpr const char* kTryNames =
    "give a picture and its label file the same name (1.jpg, 1.png or 1_mask.png), in one folder or in two that differ in one name "
    "(images, masks); or write the configuration by hand: data.folders with its suffixes, or data.list (docs/config.md)";

struct File {
  fs::path path;                     // below the root
  std::vector<std::string> folders;  // of the path
  std::string name, stem, ending;
};

template <class Words>
bool is_among(const std::string& word, const Words& words) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

bool has_any(const std::string& text, std::span<const char* const> words) {
  return std::any_of(words.begin(), words.end(), [&](const char* word) { return text.find(word) != std::string::npos; });
}

// What a folder's name says of a split: train, train_images, masks-val, trainannot, val2017.
struct SplitName {
  std::string split;    // "train", "val" or "test"; empty: none
  std::string pattern;  // the name, with "*" for the split
};

SplitName split_name(const std::string& folder) {
  constexpr std::pair<const char*, const char*> kWords[] = {{"training", "train"}, {"train", "train"}, {"validation", "val"},
                                                            {"valid", "val"},      {"val", "val"},     {"dev", "val"},
                                                            {"testing", "test"},   {"test", "test"}};
  const std::string name = lower(folder), between = "_- ";
  // What may follow or go before the word: nothing, a separator, a year, or what says that these are labels.
  const auto apart = [&](const std::string& rest, bool behind) {
    if (rest.empty() || between.find(behind ? rest.front() : rest.back()) != std::string::npos) return true;
    if (behind && rest.find_first_not_of("0123456789") == std::string::npos) return true;
    return std::any_of(std::begin(kLabelWords), std::end(kLabelWords), [&](const char* word) {
      return behind ? rest.starts_with(word) : rest.ends_with(word) || rest.ends_with(word + std::string("s"));
    });
  };
  for (const auto& [word, split] : kWords) {
    const std::string text = word;
    if (name.starts_with(text) && apart(name.substr(text.size()), true)) return {split, "*" + folder.substr(text.size())};
    const size_t rest = name.size() - std::min(name.size(), text.size());
    if (name.ends_with(text) && rest > 0 && apart(name.substr(0, rest), false)) return {split, folder.substr(0, rest) + "*"};
  }
  return {"", folder};
}

int split_place(const File& file) {
  for (size_t i = 0; i < file.folders.size(); ++i) {
    if (!split_name(file.folders[i]).split.empty()) return int(i);
  }
  return -1;
}

// How a label file's path follows from its picture's: one folder's name changes (in neither: they share the folder), and the ending. The
// name of a split in both is "*", so that train, train_labels and val, val_labels are one relation.
struct Relation {
  std::string picture_folder, label_folder, label_suffix;  // the last in lower case
  auto operator<=>(const Relation&) const = default;
};

struct Pair {
  size_t picture, label;  // of the files
  int place;              // of the folder in which their paths differ; -1: in none
};

// The only place in which the folders differ, -1 for none; nothing where they differ more, or in their splits.
std::optional<int> differing_place(const File& a, const File& b) {
  if (a.folders.size() != b.folders.size()) return std::nullopt;
  int place = -1;
  for (size_t i = 0; i < a.folders.size(); ++i) {
    if (a.folders[i] == b.folders[i]) continue;
    if (place >= 0) return std::nullopt;
    place = int(i);
  }
  if (place < 0) return place;
  const std::string split = split_name(a.folders[size_t(place)]).split, other = split_name(b.folders[size_t(place)]).split;
  return split == other || split.empty() || other.empty() ? std::optional(place) : std::nullopt;
}

Relation relation_of(const File& picture, const File& label, int place) {
  Relation relation{"", "", lower(label.name.substr(picture.stem.size()))};
  if (place < 0) return relation;
  const SplitName of_picture = split_name(picture.folders[size_t(place)]), of_label = split_name(label.folders[size_t(place)]);
  relation.picture_folder = of_picture.pattern;
  relation.label_folder = of_label.pattern;
  return relation;
}

using Relations = std::map<Relation, std::vector<Pair>>;

// What may be a picture, by the name that its label's begins with; and what may be a label.
struct Candidates {
  std::unordered_map<std::string, std::vector<size_t>> pictures;
  std::vector<size_t> labels;
};

Candidates candidates_of(const std::vector<File>& files, const DiscoverOptions& options) {
  const auto is_in = [](const File& file, const std::string& folder) {
    return folder.empty() || file.path.generic_string().starts_with(folder + "/");
  };
  Candidates candidates;
  for (size_t i = 0; i < files.size(); ++i) {
    const bool jpeg = files[i].ending == ".jpg" || files[i].ending == ".jpeg";  // which keeps no values
    if (is_in(files[i], options.images)) candidates.pictures[files[i].stem].push_back(i);
    if (!jpeg && is_in(files[i], options.labels)) candidates.labels.push_back(i);
  }
  return candidates;
}

// Every way in which label files could belong to pictures, of some thousand of them: where many folders have files of the same names,
// there are as many ways as folders.
Relations relations_of(const std::vector<File>& files, const Candidates& candidates) {
  constexpr size_t kLooked = 2000;
  std::vector<size_t> labels = candidates.labels;
  Random random(0);
  if (labels.size() > kLooked) {
    for (size_t i = 0; i < kLooked; ++i) std::swap(labels[i], labels[size_t(random.uniform_int(int64_t(i), int64_t(labels.size())))]);
    labels.resize(kLooked);
    std::sort(labels.begin(), labels.end());
  }
  Relations relations;
  for (const size_t label : labels) {
    for (size_t length = files[label].stem.size(); length > 0; --length) {
      const auto pictures = candidates.pictures.find(files[label].name.substr(0, length));
      if (pictures == candidates.pictures.end()) continue;
      for (const size_t picture : pictures->second) {
        const auto place = differing_place(files[picture], files[label]);
        if (picture == label || !place) continue;
        relations[relation_of(files[picture], files[label], *place)].push_back({picture, label, *place});
      }
    }
  }
  return relations;
}

// All that the relation holds for.
std::vector<Pair> pairs_of(const std::vector<File>& files, const Candidates& candidates, const Relation& relation) {
  // visit(place, key): what a picture and its label have in common, at each place where they may differ.
  const auto visit_keys = [](const File& file, const std::string& pattern, const std::string& stem, const auto& visit) {
    for (int place = -1; place < int(file.folders.size()); ++place) {
      if ((place < 0) != pattern.empty() || (place >= 0 && split_name(file.folders[size_t(place)]).pattern != pattern)) continue;
      std::string key = std::to_string(place) + "/";
      for (int i = 0; i < int(file.folders.size()); ++i) key += (i == place ? "" : file.folders[size_t(i)]) + "/";
      visit(place, key + stem);
    }
  };
  std::unordered_map<std::string, std::vector<size_t>> pictures;
  for (const auto& [stem, all] : candidates.pictures) {
    for (const size_t picture : all) {
      visit_keys(files[picture], relation.picture_folder, stem, [&](int, const std::string& key) { pictures[key].push_back(picture); });
    }
  }
  std::vector<Pair> pairs;
  for (const size_t label : candidates.labels) {
    const std::string& name = files[label].name;
    if (!lower(name).ends_with(relation.label_suffix)) continue;
    const std::string stem = name.substr(0, name.size() - relation.label_suffix.size());
    visit_keys(files[label], relation.label_folder, stem, [&](int place, const std::string& key) {
      const auto found = pictures.find(key);
      if (found == pictures.end()) return;
      for (const size_t picture : found->second) {
        if (picture != label && differing_place(files[picture], files[label]) == place) pairs.push_back({picture, label, place});
      }
    });
  }
  return pairs;
}

// What a few pairs of a relation look like.
struct Look {
  size_t picture_colors = 0, label_colors = 0;  // the most of those that can be read; 0: none can
};

class Looker {
 public:
  Looker(const fs::path& root, const std::vector<File>& files) : root_(root), files_(files) {}

  Look look(const std::vector<Pair>& pairs) {
    constexpr size_t kLooked = 6;
    Look look;
    const size_t count = std::min(kLooked, pairs.size());
    for (size_t i = 0; i < count; ++i) {
      const Pair& pair = pairs[i * pairs.size() / count];
      look.picture_colors = std::max(look.picture_colors, colors(pair.picture));
      look.label_colors = std::max(look.label_colors, colors(pair.label));
    }
    return look;
  }

 private:
  size_t colors(size_t file) {
    constexpr size_t kMost = 1 << 12;
    if (const auto known = known_.find(file); known != known_.end()) return known->second;
    size_t count = 0;
    try {
      count = count_colors(read_image(root_ / files_[file].path), kMost);
    } catch (const Error&) {  // it is named when the label files are looked into
    }
    return known_[file] = count;
  }

  const fs::path& root_;
  const std::vector<File>& files_;
  std::map<size_t, size_t> known_;
};

// Of the relations that hold for most files the one that looks most like pictures and their labels: by the folders' names, then by the
// colours, of which labels have fewer (images/1.png and masks/1.png are each other's label by name). Masks of instances, depth and the
// like have names that say so, and stand back.
Relations::const_iterator chosen_relation(const fs::path& root, const std::vector<File>& files, const Relations& relations,
                                          std::vector<std::string>& remarks) {
  constexpr size_t kMostLooked = 40;
  std::vector<Relations::const_iterator> by_size;
  for (auto relation = relations.begin(); relation != relations.end(); ++relation) by_size.push_back(relation);
  std::stable_sort(by_size.begin(), by_size.end(), [](const auto& a, const auto& b) { return a->second.size() > b->second.size(); });
  const size_t most = by_size.front()->second.size();
  struct Candidate {
    Relations::const_iterator relation;
    int named_labels;  // 0: the label files alone have a name for such, 1, 2: the pictures do
    bool other_masks, swapped, painted;
    size_t label_colors, missing, picture_colors;
    auto rank() const { return std::tuple(named_labels, other_masks, swapped, painted, label_colors, missing, -int64_t(picture_colors)); }
  };
  Looker looker(root, files);
  std::vector<Candidate> candidates;
  for (const auto& relation : by_size) {
    if (2 * relation->second.size() < most || candidates.size() == kMostLooked) break;
    const std::string label = lower(relation->first.label_folder + relation->first.label_suffix),
                      picture = lower(relation->first.picture_folder);
    const bool label_named = has_any(label, kLabelWords), picture_named = has_any(picture, kLabelWords);
    const Look look = looker.look(relation->second);
    candidates.push_back({.relation = relation,
                          .named_labels = label_named == picture_named ? 1
                                          : label_named                ? 0
                                                                       : 2,
                          .other_masks = has_any(label, kOtherMasks),
                          .swapped = look.label_colors == 0 || (look.picture_colors > 0 && look.label_colors >= look.picture_colors),
                          .painted = look.picture_colors > 0 && look.picture_colors <= 256,
                          .label_colors = look.label_colors,
                          .missing = most - relation->second.size(),
                          .picture_colors = look.picture_colors});
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) { return a.rank() < b.rank(); });
  const auto pair_of = [](const Candidate& c) { return c.relation->second.front(); };
  const auto path = [&](size_t file) { return files[file].path.generic_string(); };
  std::set<size_t> pictures, labels;
  for (const Pair& pair : candidates.front().relation->second) pictures.insert(pair.picture), labels.insert(pair.label);
  std::set<std::string> other_labels, other_pictures;
  for (size_t i = 1; i < candidates.size(); ++i) {
    const Pair other = pair_of(candidates[i]);
    if (pictures.contains(other.label) || labels.contains(other.picture)) continue;  // the other way round
    if (pictures.contains(other.picture))
      other_labels.insert(path(other.label));
    else if (2 * candidates[i].picture_colors >= candidates.front().picture_colors)
      other_pictures.insert(path(other.picture));
  }
  const auto say = [&](const char* what, const std::set<std::string>& others, size_t taken, const char* option) {
    if (others.empty()) return;
    remarks.push_back(fmt::format("{} could also be those like {}; those like {} were taken ({} names another folder)", what,
                                  some_of({others.begin(), others.end()}), path(taken), option));
  };
  say("label files", other_labels, pair_of(candidates.front()).label, "--labels");
  say("pictures", other_pictures, pair_of(candidates.front()).picture, "--images");
  return candidates.front().relation;
}

// The folder that a split's pictures, or labels, are below: all that the paths of a relation have in common.
fs::path base_of(const File& file, int depth) {
  fs::path base;
  for (int i = 0; i < depth; ++i) base /= file.folders[size_t(i)];
  return base.empty() ? fs::path(".") : base;
}

// The first label of each picture, by split; a picture's label is no picture. And the folders and endings that a configuration would name,
// and the pictures beside them that have no label.
void take_pairs(const std::vector<File>& files, const std::vector<Pair>& pairs, FoundData& found) {
  std::set<size_t> labels, taken;
  std::set<std::string> splits, endings;
  std::vector<std::string> in_no_split;
  std::set<fs::path> folders;
  const auto split_of = [](const File& file, int place) { return place < 0 ? "train" : split_name(file.folders[size_t(place)]).split; };
  for (const Pair& pair : pairs) {
    labels.insert(pair.label);
    if (const int place = split_place(files[pair.picture]); place >= 0) splits.insert(split_of(files[pair.picture], place));
  }
  const bool by_split = splits.contains("train");
  if (!by_split && !splits.empty()) {
    found.remarks.push_back("there are folders for " + joined(splits, " and ") + ", none for train: all their pictures are taken together");
  }
  for (const Pair& pair : pairs) {
    const File &picture = files[pair.picture], &label = files[pair.label];
    if (labels.contains(pair.picture) || !taken.insert(pair.picture).second) continue;
    const int place = by_split ? split_place(picture) : -1, depth = std::max(pair.place, place) + 1;
    if (by_split && place < 0) {
      in_no_split.push_back(picture.path.generic_string());
      continue;
    }
    const std::string split = split_of(picture, place);
    found.pairs[split].push_back({picture.path, label.path});
    found.options.folders.insert({split, {base_of(picture, depth).generic_string(), base_of(label, depth).generic_string()}});
    endings.insert(picture.ending);
    folders.insert(picture.path.parent_path());
  }
  found.options.image_suffix.assign(endings.begin(), endings.end());
  for (size_t i = 0; i < files.size(); ++i) {
    if (labels.contains(i) || taken.contains(i) || !folders.contains(files[i].path.parent_path())) continue;
    found.unlabelled.push_back(files[i].path.generic_string());
  }
  if (!in_no_split.empty()) found.remarks.push_back("left out, in no split's folder: " + some_of(in_no_split));
}

// Whether the folders of a configuration give just these pairs. If not, they must be listed.
bool folders_give(const fs::path& root, const FoundData& found) {
  for (const auto& [split, pairs] : found.pairs) {
    const auto folders = found.options.folders.find(split);
    if (folders == found.options.folders.end() || !is_utf8(folders->second.images) || !is_utf8(folders->second.labels)) return false;
    FilePairs given;
    try {
      given = pairs_from_folders(root / folders->second.images, root / folders->second.labels, found.options.image_suffix,
                                 found.options.label_suffix);
    } catch (const DataError&) {
      return false;
    }
    std::set<std::pair<fs::path, fs::path>> expected, actual;
    for (const SampleFiles& pair : pairs)
      expected.insert({(root / pair.image).lexically_normal(), (root / pair.labels).lexically_normal()});
    for (const SampleFiles& pair : given.files) actual.insert({pair.image.lexically_normal(), pair.labels.lexically_normal()});
    if (actual != expected) return false;
  }
  return true;
}

// `unread`: how many files there are of formats that are not read, in words.
std::vector<File> pictures_below(const fs::path& root, std::string& unread_words) {
  std::vector<File> files;
  std::map<std::string, int64_t> unread;
  for (const fs::path& path : files_below(root)) {
    File file{path, {}, path.filename().string(), path.stem().string(), lower(path.extension().string())};
    if (is_among(file.ending, kUnreadEndings)) ++unread[file.ending];
    if (!is_among(file.ending, kEndings)) continue;
    for (const fs::path& folder : path.parent_path()) file.folders.push_back(folder.string());
    files.push_back(std::move(file));
  }
  std::vector<std::string> others;
  for (const auto& [ending, count] : unread) others.push_back(fmt::format("{} {}", count, ending));
  unread_words = titled(": ", others, " files cannot be read");
  if (!files.empty()) return files;
  throw DataError("there is no picture in the folder" + unread_words, root.string(), kTryFormats);
}

// A folder that is named from the root, or from where the program runs: from the root. "": all of it.
std::string below(const fs::path& root, const std::string& folder, const char* option) {
  if (folder.empty()) return folder;
  std::error_code ignored;
  fs::path found = fs::path(folder + "/").lexically_normal().parent_path();  // however it ends
  if (found.is_absolute() || !fs::is_directory(root / found, ignored))
    found = fs::proximate(fs::absolute(found), fs::absolute(root), ignored);
  if (found.empty() || *found.begin() == ".." || !fs::is_directory(root / found, ignored)) {
    throw UsageError("there is no such folder below " + root.string() + ": " + folder, option, "name a folder in it");
  }
  return found == "." ? "" : found.string();
}

// The label files to look into, evenly spread. Their pictures' sizes are taken down, and what does not fit is said.
std::vector<fs::path> look_at_pairs(const fs::path& root, int64_t samples, FoundData& found) {
  std::vector<SampleFiles> all;
  std::vector<fs::path> sample;
  for (const auto& [split, of_split] : found.pairs) all.insert(all.end(), of_split.begin(), of_split.end());
  const size_t count = samples > 0 ? std::min(all.size(), size_t(samples)) : all.size();
  std::vector<std::string> unequal, unreadable;
  for (size_t i = 0; i < count; ++i) {
    const SampleFiles& pair = all[i * all.size() / count];
    sample.push_back(root / pair.labels);
    const PictureInfo labels = probe_picture(sample.back());
    try {
      const PictureInfo picture = probe_picture(root / pair.image);
      ++found.sizes[{picture.width, picture.height}];
      if (picture.width != labels.width || picture.height != labels.height) unequal.push_back(pair.image.generic_string());
    } catch (const Error&) {
      unreadable.push_back(pair.image.generic_string());
      ++found.sizes[{labels.width, labels.height}];
    }
  }
  found.looked_into = int64_t(count);
  if (!unequal.empty()) found.remarks.push_back("pictures and label files of different sizes: " + some_of(unequal));
  if (!unreadable.empty()) found.remarks.push_back("pictures that cannot be read: " + some_of(unreadable));
  if (count < all.size()) {
    found.remarks.push_back(fmt::format("{} of {} label files were looked into (--samples 0: all)", count, all.size()));
  }
  return sample;
}

}  // namespace

FoundData discover_data(const fs::path& root, const DiscoverOptions& options) {
  require_folder(root, "give the folder that holds the pictures and the label files");
  if (!is_utf8(root.string()))
    throw UsageError("a configuration cannot hold this folder's name: it is not UTF-8", root.string(), "rename it");
  FoundData found;
  if (options.images.empty() && options.labels.empty() && discover_known(root, found)) return found;
  std::string unread;
  const std::vector<File> files = pictures_below(root, unread);
  const Candidates candidates = candidates_of(files, {below(root, options.images, "--images"), below(root, options.labels, "--labels")});
  const Relations relations = relations_of(files, candidates);
  if (relations.empty()) {
    const bool jpeg = std::all_of(files.begin(), files.end(), [](const File& f) { return f.ending == ".jpg" || f.ending == ".jpeg"; });
    throw DataError(fmt::format("of {} none is another's label file, for example {}{}", counted(int64_t(files.size()), "picture"),
                                files[0].path.generic_string(), unread),
                    root.string(),
                    !unread.empty() ? kTryFormats
                    : jpeg          ? "all are JPEG, which does not keep labels' values: write the labels as PNG"
                                    : kTryNames);
  }
  if (!unread.empty()) found.remarks.push_back("not looked at" + unread);
  const Relation relation = chosen_relation(root, files, relations, found.remarks)->first;
  const std::vector<Pair> pairs = pairs_of(files, candidates, relation);

  take_pairs(files, pairs, found);
  found.options.type = "folders";
  found.options.root = root.string();
  found.options.label_suffix = relation.label_suffix;
  if (!found.pairs.contains("val")) found.options.val_fraction = 0.2;
  if (!folders_give(root, found)) found.options.folders.clear();
  if (found.options.val_fraction > 0) take_lists(root, found);

  discover_labels(root, look_at_pairs(root, options.samples, found), found);
  const std::vector<SampleFiles>& train = found.pairs.at("train");
  if (found.options.val_fraction > 0 && train.size() < 2) {
    throw DataError("there is one picture with labels, which leaves none to evaluate on", (root / train[0].image).string(),
                    "add pictures, or folders train and val");
  }
  return found;
}

}  // namespace eq
