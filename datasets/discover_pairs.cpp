#include "datasets/discover_pairs.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <span>
#include <tuple>
#include <unordered_map>

#include "core/random.h"
#include "core/words.h"
#include "datasets/folders.h"

namespace eq {
namespace {

constexpr const char* kSeparators = "_- .";  // of a name's words

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
    if (name.starts_with(text) && apart(name.substr(text.size()), true)) return {split, folder.substr(text.size()).insert(0, 1, '*')};
    const size_t rest = name.size() - std::min(name.size(), text.size());
    if (name.ends_with(text) && rest > 0 && apart(name.substr(0, rest), false)) return {split, folder.substr(0, rest) + "*"};
  }
  return {"", folder};
}

// What two paths have in common: the longest sequence of folders that both have, in this order.
struct Alignment {
  std::vector<std::string> only_a, only_b;  // patterns of the others
  std::string split_a, split_b;             // the first that they name
  size_t below = 0;                         // folders that end both
};

Alignment align(const FoundFile& a, const FoundFile& b) {
  const size_t rows = a.folders.size(), columns = b.folders.size();
  std::vector<size_t> longest((rows + 1) * (columns + 1));  // of what follows
  const auto at = [&](size_t i, size_t j) -> size_t& { return longest[i * (columns + 1) + j]; };
  for (size_t i = rows; i-- > 0;) {
    for (size_t j = columns; j-- > 0;)
      at(i, j) = a.folders[i] == b.folders[j] ? at(i + 1, j + 1) + 1 : std::max(at(i + 1, j), at(i, j + 1));
  }
  Alignment result;
  const auto add = [](const SplitName& name, std::vector<std::string>& patterns, std::string& split) {
    patterns.push_back(name.pattern);
    if (split.empty()) split = name.split;
  };
  size_t i = 0, j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && a.folders[i] == b.folders[j]) {
      ++i, ++j, ++result.below;
      continue;
    }
    result.below = 0;
    if (j == columns || (i < rows && at(i + 1, j) >= at(i, j + 1)))
      add(a.splits[i++], result.only_a, result.split_a);
    else
      add(b.splits[j++], result.only_b, result.split_b);
  }
  return result;
}

// Whether two files can be of one pair: not where they are in folders of two splits.
bool fits(const Alignment& folders) { return folders.split_a == folders.split_b || folders.split_a.empty() || folders.split_b.empty(); }

// --- words that many names begin or end with ---

bool has_letter(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c >= 128 || std::isalpha(c) != 0; });
}

// The first two words, and what is before the first digit: "image_", "image_top_"; "image" of "image12".
std::vector<std::string> first_words(const std::string& stem) {
  std::vector<std::string> words;
  const size_t digit = stem.find_first_of("0123456789");
  if (digit != std::string::npos && digit > 0) words.push_back(stem.substr(0, digit));
  size_t end = stem.find_first_of(kSeparators);
  for (int i = 0; i < 2 && end != std::string::npos; ++i, end = stem.find_first_of(kSeparators, end + 1)) {
    if (end + 1 != digit) words.push_back(stem.substr(0, end + 1));
  }
  return words;
}

// The last two: "_anon", "_rgb_anon".
std::vector<std::string> last_words(const std::string& stem) {
  std::vector<std::string> words;
  size_t begin = stem.find_last_of(kSeparators);
  for (int i = 0; i < 2 && begin != std::string::npos && begin > 0; ++i, begin = stem.find_last_of(kSeparators, begin - 1)) {
    words.push_back(lower(stem.substr(begin)));
  }
  return words;
}

// Of these words those that a twentieth of all files have, and "", for none.
class CommonWords {
 public:
  CommonWords(const std::vector<FoundFile>& files, std::vector<std::string> (*words_of)(const std::string&)) : words_of_(words_of) {
    std::unordered_map<std::string, size_t> counts;
    for (const FoundFile& file : files) {
      for (const std::string& word : words_of(file.stem)) counts[word] += has_letter(word) ? 1 : 0;
    }
    for (const auto& [word, count] : counts) {
      if (count >= 2 && 20 * count >= files.size()) common_.insert(word);
    }
  }

  std::vector<std::string> of(const std::string& stem) const {
    std::vector<std::string> words = words_of_(stem);
    std::erase_if(words, [&](const std::string& word) { return !common_.contains(word); });
    words.push_back("");
    return words;
  }

 private:
  std::vector<std::string> (*words_of_)(const std::string&);
  std::set<std::string> common_;
};

struct PictureName {
  size_t picture;
  std::string prefix, suffix;  // that its name has around what it shares with its label's
};

// Whether a relation of these says what a shorter one does not. A label may have anything behind a picture's whole name, but words where
// the picture has some too.
bool is_relation(const PictureName& picture, const std::string& label_prefix, const std::string& label_rest) {
  if (!picture.prefix.empty() && picture.prefix == label_prefix) return false;
  if (picture.suffix.empty() || label_rest.empty()) return true;
  return std::string(kSeparators).find(label_rest.front()) != std::string::npos && !lower(label_rest).starts_with(picture.suffix);
}

}  // namespace

FoundFile::FoundFile(const std::filesystem::path& below_root)
    : path(below_root), name(path.filename().string()), stem(path.stem().string()), ending(lower(path.extension().string())) {
  for (const std::filesystem::path& folder : path.parent_path()) {
    folders.push_back(folder.string());
    splits.push_back(split_name(folders.back()));
  }
}

int FoundFile::split_place() const {
  const auto place = std::find_if(splits.begin(), splits.end(), [](const SplitName& name) { return !name.split.empty(); });
  return place == splits.end() ? -1 : int(place - splits.begin());
}

std::map<PairRelation, std::vector<FoundPair>> find_relations(const std::vector<FoundFile>& files, const PairCandidates& candidates) {
  const CommonWords before(files, first_words), behind(files, last_words);
  std::unordered_map<std::string, std::vector<PictureName>> pictures;  // by what they could share with their label's
  for (const size_t picture : candidates.pictures) {
    const std::string& stem = files[picture].stem;
    for (const std::string& prefix : before.of(stem)) {
      for (const std::string& suffix : behind.of(stem)) {
        if (prefix.size() + suffix.size() >= stem.size()) continue;
        pictures[stem.substr(prefix.size(), stem.size() - prefix.size() - suffix.size())].push_back({picture, prefix, suffix});
      }
    }
  }
  std::map<PairRelation, std::vector<FoundPair>> relations;
  int64_t left = 400'000;  // pairs to look at: where many folders have files of the same names, each label could belong to as many pictures
  std::vector<size_t> labels = candidates.labels;
  Random random(0);
  draw_to_front(labels, labels.size(), random);
  for (const size_t label : labels) {
    if (left <= 0) break;
    const FoundFile& file = files[label];
    for (const std::string& prefix : before.of(file.stem)) {
      for (size_t length = file.stem.size() - prefix.size(); length > 0; --length) {
        const auto named = pictures.find(file.stem.substr(prefix.size(), length));
        if (named == pictures.end()) continue;
        left -= int64_t(named->second.size());
        const std::string rest = file.stem.substr(prefix.size() + length);
        for (const PictureName& picture : named->second) {
          if (picture.picture == label || !is_relation(picture, prefix, rest)) continue;
          const Alignment folders = align(files[picture.picture], file);
          if (!fits(folders)) continue;
          relations[{folders.only_a, folders.only_b, picture.prefix, prefix, picture.suffix, lower(rest) + file.ending}].push_back(
              {picture.picture, label, folders.below});
        }
      }
    }
  }
  for (auto& [names, pairs] : relations) {
    std::sort(pairs.begin(), pairs.end(),
              [](const FoundPair& a, const FoundPair& b) { return std::tie(a.label, a.picture) < std::tie(b.label, b.picture); });
  }
  return relations;
}

namespace {

// Calls visit(key) with what is left of the file's folders without those of `patterns`, wherever they are, and of its name.
template <class Visit>
void visit_keys(const FoundFile& file, std::span<const std::string> patterns, const std::string& core, const Visit& visit,
                size_t folder = 0, const std::string& key = "") {
  if (folder == file.folders.size()) {
    if (patterns.empty()) visit(key + core);
    return;
  }
  if (!patterns.empty() && file.splits[folder].pattern == patterns.front()) {
    visit_keys(file, patterns.subspan(1), core, visit, folder + 1, key);
  }
  visit_keys(file, patterns, core, visit, folder + 1, key + file.folders[folder] + "/");
}

}  // namespace

std::vector<FoundPair> pairs_of(const std::vector<FoundFile>& files, const PairCandidates& candidates, const PairRelation& relation) {
  // What is left of a name; "" where it does not fit.
  const auto core_of = [](const std::string& name, const std::string& prefix, const std::string& suffix) -> std::string {
    const bool fits = name.size() > prefix.size() + suffix.size() && name.starts_with(prefix) && lower(name).ends_with(suffix);
    return fits ? name.substr(prefix.size(), name.size() - prefix.size() - suffix.size()) : "";
  };
  std::unordered_map<std::string, std::vector<size_t>> pictures;
  for (const size_t picture : candidates.pictures) {
    const std::string core = core_of(files[picture].stem, relation.picture_prefix, relation.picture_suffix);
    if (core.empty()) continue;
    visit_keys(files[picture], relation.picture_folders, core, [&](const std::string& key) { pictures[key].push_back(picture); });
  }
  std::vector<FoundPair> pairs;
  for (const size_t label : candidates.labels) {
    const std::string core = core_of(files[label].name, relation.label_prefix, relation.label_suffix);
    if (core.empty()) continue;
    std::set<size_t> seen;
    visit_keys(files[label], relation.label_folders, core, [&](const std::string& key) {
      const auto found = pictures.find(key);
      if (found == pictures.end()) return;
      for (const size_t picture : found->second) {
        if (picture == label || !seen.insert(picture).second) continue;
        const Alignment folders = align(files[picture], files[label]);
        if (fits(folders) && folders.only_a == relation.picture_folders && folders.only_b == relation.label_folders)
          pairs.push_back({picture, label, folders.below});
      }
    });
  }
  return pairs;
}

}  // namespace eq
