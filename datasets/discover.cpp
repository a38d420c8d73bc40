// Which files are pictures, which are their labels, and which split they belong to.
#include "datasets/discover.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>
#include <tuple>

#include "core/errors.h"
#include "core/json.h"
#include "core/words.h"
#include "datasets/discover_pairs.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEndings[] = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tga"};
constexpr const char* kUnreadEndings[] = {".tif", ".tiff", ".webp", ".gif", ".heic", ".jp2"};
constexpr const char* kTryFormats =
    "JPEG, PNG, PPM, PGM, BMP and TGA can be read; convert others to PNG, for example with ImageMagick's mogrify";
// In names of folders and files: what is no class map.
constexpr const char* kOtherMasks[] = {"object",  "instance", "depth", "edge",    "color",   "rgb",
                                       "preview", "overlay",  "human", "invgray", "panoptic"};
constexpr const char* kTryNames =
    "give a picture and its label file the same name (1.jpg, 1.png or 1_mask.png), in one folder or in two that differ in one name "
    "(images, masks); or write the configuration by hand: data.folders with its suffixes, or data.list (docs/config.md)";

template <class Words>
bool is_among(const std::string& word, const Words& words) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

bool has_any(const std::string& text, std::span<const char* const> words) {
  return std::any_of(words.begin(), words.end(), [&](const char* word) { return text.find(word) != std::string::npos; });
}

// What may be a picture and what may be a label, by where they are and by their endings.
PairCandidates candidates_of(const std::vector<FoundFile>& files, const DiscoverOptions& options) {
  const auto is_in = [](const FoundFile& file, const std::string& folder) {
    return folder.empty() || file.path.generic_string().starts_with(folder + "/");
  };
  PairCandidates candidates;
  for (size_t i = 0; i < files.size(); ++i) {
    const bool jpeg = files[i].ending == ".jpg" || files[i].ending == ".jpeg";  // which keeps no values
    if (is_in(files[i], options.images)) candidates.pictures.push_back(i);
    if (!jpeg && is_in(files[i], options.labels)) candidates.labels.push_back(i);
  }
  return candidates;
}

using Relations = std::map<PairRelation, std::vector<FoundPair>>;

// What a few pairs of a relation look like.
struct Look {
  size_t picture_colors = 0, label_colors = 0;  // the most of those that can be read; 0: none can
};

class Looker {
 public:
  Looker(const fs::path& root, const std::vector<FoundFile>& files) : root_(root), files_(files) {}

  Look look(const std::vector<FoundPair>& pairs) {
    constexpr size_t kLooked = 6;
    Look look;
    const size_t count = std::min(kLooked, pairs.size());
    for (size_t i = 0; i < count; ++i) {
      const FoundPair& pair = pairs[i * pairs.size() / count];
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
  const std::vector<FoundFile>& files_;
  std::map<size_t, size_t> known_;
};

// How much differs between the paths of pictures and labels.
size_t changes_of(const PairRelation& names) {
  return names.picture_folders.size() + names.label_folders.size() + (names.picture_prefix.empty() ? 0 : 1) +
         (names.label_prefix.empty() ? 0 : 1) + (names.picture_suffix.empty() ? 0 : 1);
}

// What the names say against these being pictures and their labels: the less, the better.
struct NameRank {
  int named_labels;  // 0: the label files alone have a name for such, 1, 2: the pictures do
  bool other_masks;
  auto operator<=>(const NameRank&) const = default;
};

NameRank rank_of(const PairRelation& names) {
  const std::string label = lower(joined(names.label_folders, "/") + "/" + names.label_prefix + "/" + names.label_suffix),
                    picture = lower(joined(names.picture_folders, "/") + "/" + names.picture_prefix + "/" + names.picture_suffix);
  const bool label_named = has_any(label, kLabelWords), picture_named = has_any(picture, kLabelWords);
  return {label_named == picture_named ? 1 : label_named ? 0 : 2, has_any(label, kOtherMasks)};
}

struct Candidate {
  Relations::const_iterator relation;
  NameRank names;
  bool swapped, painted;
  size_t label_colors, missing, picture_colors, changes;
  auto rank() const { return std::tuple(names, swapped, painted, label_colors, missing, -int64_t(picture_colors), changes); }
};

// The relations that hold for at least half as many files as any, the likeliest first: by their names, then by the colours, of which
// labels have fewer (images/1.png and masks/1.png are each other's label by name). Masks of instances, depth and the like have names that
// say so, and stand back.
std::vector<Candidate> ranked_relations(const fs::path& root, const std::vector<FoundFile>& files, const Relations& relations) {
  constexpr size_t kMostLooked = 40;
  size_t most = 0;
  for (const auto& [names, pairs] : relations) most = std::max(most, pairs.size());
  std::vector<Candidate> candidates;
  for (auto relation = relations.begin(); relation != relations.end(); ++relation) {
    const auto& [names, pairs] = *relation;
    if (2 * pairs.size() < most) continue;
    candidates.push_back({.relation = relation, .names = rank_of(names), .missing = most - pairs.size(), .changes = changes_of(names)});
  }
  const auto sort = [&](const auto& key) {
    std::stable_sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) { return key(a) < key(b); });
  };
  sort([](const Candidate& c) { return std::tuple(c.names, c.missing); });
  if (candidates.size() > kMostLooked) candidates.erase(candidates.begin() + kMostLooked, candidates.end());
  Looker looker(root, files);
  for (Candidate& candidate : candidates) {
    const Look look = looker.look(candidate.relation->second);
    candidate.swapped = look.label_colors == 0 || (look.picture_colors > 0 && look.label_colors >= look.picture_colors);
    candidate.painted = look.picture_colors > 0 && look.picture_colors <= 256;
    candidate.label_colors = look.label_colors;
    candidate.picture_colors = look.picture_colors;
  }
  sort([](const Candidate& c) { return c.rank(); });
  return candidates;
}

// What else could be the pictures or their label files.
void remark_others(const std::vector<FoundFile>& files, const std::vector<Candidate>& candidates, std::vector<std::string>& remarks) {
  const auto pair_of = [](const Candidate& c) { return c.relation->second.front(); };
  const auto path = [&](size_t file) { return files[file].path.generic_string(); };
  std::set<size_t> pictures, labels;
  for (const FoundPair& pair : candidates.front().relation->second) pictures.insert(pair.picture), labels.insert(pair.label);
  std::set<std::string> other_labels, other_pictures;
  for (const Candidate& candidate : candidates) {
    const FoundPair other = pair_of(candidate);
    if (pictures.contains(other.label) || labels.contains(other.picture)) continue;  // the other way round
    if (pictures.contains(other.picture)) {
      if (!labels.contains(other.label)) other_labels.insert(path(other.label));
    } else if (2 * candidate.picture_colors >= candidates.front().picture_colors) {
      other_pictures.insert(path(other.picture));
    }
  }
  const auto say = [&](const char* what, const std::set<std::string>& others, size_t taken, const char* option) {
    if (others.empty()) return;
    remarks.push_back(fmt::format("{} could also be those like {}; those like {} were taken ({} names another folder)", what,
                                  some_of({others.begin(), others.end()}), path(taken), option));
  };
  say("label files", other_labels, pair_of(candidates.front()).label, "--labels");
  say("pictures", other_pictures, pair_of(candidates.front()).picture, "--images");
  if (candidates.front().swapped) {
    remarks.push_back(
        fmt::format("the pictures, like {}, have no more colours than their label files, as if they were such themselves (--images "
                    "names another folder)",
                    path(pair_of(candidates.front()).picture)));
  }
}

// The first `depth` folders of a path.
std::string base_of(const FoundFile& file, size_t depth) {
  fs::path base;
  for (size_t i = 0; i < depth; ++i) base /= file.folders[i];
  return base.empty() ? "." : base.generic_string();
}

// Where a pair's split is named, by its picture's folders or else by its label file's; "" where it is not.
std::string split_of(const FoundFile& picture, const FoundFile& label) {
  for (const FoundFile* file : {&picture, &label}) {
    if (const int place = file->split_place(); place >= 0) return file->splits[size_t(place)].split;
  }
  return "";
}

// The folders that a split's pictures and label files are below: as far down as they differ, or as the split is named.
FolderPair bases_of(const FoundFile& picture, const FoundFile& label, const FoundPair& pair, bool by_split) {
  const size_t split = by_split ? size_t(picture.split_place() + 1) : 0, depth = std::max(split, picture.folders.size() - pair.below);
  return {base_of(picture, depth), base_of(label, label.folders.size() - (picture.folders.size() - depth))};
}

// Whether a file that is in no pair is a picture without labels: no other mask of a picture that has some (1_instances.png of 1.png).
bool is_unlabelled(const FoundFile& file, const PairRelation& relation, const std::vector<std::string>& suffixes,
                   const std::set<fs::path>& stems) {
  const std::string name = lower(file.name);
  if (!file.name.starts_with(relation.picture_prefix) ||
      std::none_of(suffixes.begin(), suffixes.end(), [&](const std::string& suffix) { return name.ends_with(suffix); })) {
    return false;
  }
  for (size_t length = file.stem.size() - 1; length > 0; --length) {
    const std::string rest = lower(file.stem.substr(length));
    if ((has_any(rest, kOtherMasks) || has_any(rest, kLabelWords)) && stems.contains(file.path.parent_path() / file.stem.substr(0, length)))
      return false;
  }
  return true;
}

// The first label of each picture, by split; a picture's label is no picture. And the folders and endings that a configuration would name,
// and the pictures beside them that have no label.
void take_pairs(const std::vector<FoundFile>& files, const std::vector<FoundPair>& pairs, const PairRelation& relation, FoundData& found) {
  std::map<size_t, size_t> labels;  // how many pictures each has
  std::set<size_t> taken;
  std::set<std::string> splits, endings;
  std::vector<std::string> in_no_split, shared;
  std::set<fs::path> folders, stems;  // of the pictures that are taken
  for (const FoundPair& pair : pairs) {
    labels[pair.label] = 0;
    splits.insert(split_of(files[pair.picture], files[pair.label]));
  }
  const bool by_split = splits.contains("train");
  splits.erase("");
  if (!by_split && !splits.empty()) {
    found.remarks.push_back("there are folders for " + joined(splits, " and ") + ", none for train: all their pictures are taken together");
  }
  for (const FoundPair& pair : pairs) {
    const FoundFile &picture = files[pair.picture], &label = files[pair.label];
    if (labels.contains(pair.picture) || !taken.insert(pair.picture).second) continue;
    const std::string split = by_split ? split_of(picture, label) : "train";
    if (split.empty()) {
      in_no_split.push_back(picture.path.generic_string());
      continue;
    }
    found.pairs[split].push_back({picture.path, label.path});
    found.options.folders.insert({split, bases_of(picture, label, pair, by_split)});
    endings.insert(relation.picture_suffix + picture.ending);
    folders.insert(picture.path.parent_path());
    stems.insert(picture.path.parent_path() / picture.stem);
    if (++labels[pair.label] == 2) shared.push_back(label.path.generic_string());
  }
  found.options.image_suffix.assign(endings.begin(), endings.end());
  for (size_t i = 0; i < files.size(); ++i) {
    if (labels.contains(i) || taken.contains(i) || !folders.contains(files[i].path.parent_path())) continue;
    if (is_unlabelled(files[i], relation, found.options.image_suffix, stems)) found.unlabelled.push_back(files[i].path.generic_string());
  }
  if (!in_no_split.empty()) found.remarks.push_back("left out, in no split's folder: " + some_of(in_no_split));
  if (!shared.empty()) found.remarks.push_back("label files that several pictures have: " + some_of(shared));
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
std::vector<FoundFile> pictures_below(const fs::path& root, std::string& unread_words) {
  std::vector<FoundFile> files;
  std::map<std::string, int64_t> unread;
  for (const fs::path& path : files_below(root)) {
    FoundFile file(path);
    if (is_among(file.ending, kUnreadEndings)) ++unread[file.ending];
    if (!is_among(file.ending, kEndings)) continue;
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

// The label files to look into, evenly spread, train's first. Their pictures' sizes are taken down, and what does not fit is said.
std::vector<fs::path> look_at_pairs(const fs::path& root, int64_t samples, size_t& train_files, FoundData& found) {
  const std::vector<SampleFiles>& train = found.pairs.at("train");
  std::vector<SampleFiles> all = train;
  std::vector<fs::path> sample;
  for (const auto& [split, of_split] : found.pairs) {
    if (&of_split != &train) all.insert(all.end(), of_split.begin(), of_split.end());
  }
  const size_t count = samples > 0 ? std::min(all.size(), size_t(samples)) : all.size();
  std::vector<std::string> unequal, unreadable;
  for (size_t i = 0; i < count; ++i) {
    const size_t index = i * all.size() / count;
    const SampleFiles& pair = all[index];
    sample.push_back(root / pair.labels);
    if (index < train.size()) train_files = sample.size();
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
  const std::vector<FoundFile> files = pictures_below(root, unread);
  const PairCandidates candidates =
      candidates_of(files, {below(root, options.images, "--images"), below(root, options.labels, "--labels")});
  const Relations relations = find_relations(files, candidates);
  if (relations.empty()) {
    const bool jpeg = std::all_of(files.begin(), files.end(), [](const FoundFile& f) { return f.ending == ".jpg" || f.ending == ".jpeg"; });
    throw DataError(fmt::format("of {} none is another's label file, for example {}{}", counted(int64_t(files.size()), "picture"),
                                files[0].path.generic_string(), unread),
                    root.string(),
                    !unread.empty() ? kTryFormats
                    : jpeg          ? "all are JPEG, which does not keep labels' values: write the labels as PNG"
                                    : kTryNames);
  }
  if (!unread.empty()) found.remarks.push_back("not looked at" + unread);
  const std::vector<Candidate> ranked = ranked_relations(root, files, relations);
  remark_others(files, ranked, found.remarks);
  const PairRelation& relation = ranked.front().relation->first;
  take_pairs(files, pairs_of(files, candidates, relation), relation, found);
  found.options.type = "folders";
  found.options.root = root.string();
  found.options.label_suffix = relation.label_suffix;
  if (!found.pairs.contains("val")) found.options.val_fraction = 0.2;
  if (!folders_give(root, found)) found.options.folders.clear();
  if (found.options.val_fraction > 0) take_lists(root, found);

  size_t train_files = 0;
  const std::vector<fs::path> looked = look_at_pairs(root, options.samples, train_files, found);
  discover_labels(root, looked, train_files, found);
  const std::vector<SampleFiles>& train = found.pairs.at("train");
  if (found.options.val_fraction > 0 && train.size() < 2) {
    throw DataError("there is one picture with labels, which leaves none to evaluate on", (root / train[0].image).string(),
                    "add pictures, or folders train and val");
  }
  return found;
}

}  // namespace eq
