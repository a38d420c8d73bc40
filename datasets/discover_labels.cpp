// What label files hold, and which classes that makes.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <span>
#include <sstream>

#include "core/csv.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/parallel.h"
#include "core/words.h"
#include "datasets/discover.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

constexpr Color kVocVoid = {224, 224, 192};  // what PASCAL VOC paints its borders with

struct Counts {
  int64_t pixels = 0, files = 0, train_files = 0;

  void add(int64_t more, bool of_train) {
    pixels += more;
    ++files;
    train_files += of_train;
  }
};
struct LabelFile {
  bool is_gray = false;  // its values are told, not only its colours
  std::array<int64_t, 256> values{};
  std::array<std::optional<Color>, 256> shown;  // of each value
  std::map<Color, int64_t> colors;
};

LabelFile look_into(const fs::path& path) {
  LabelFile file;
  const std::string mode = probe_picture(path).mode;
  const Image image = read_image(path);
  file.is_gray = mode == "gray" || mode == "indexed";
  LabelMap map;
  if (file.is_gray) map = read_label_map(path);
  for (size_t i = 0; i < image.pixels.size() / 3; ++i) {
    const Color color = {image.pixels[3 * i], image.pixels[3 * i + 1], image.pixels[3 * i + 2]};
    if (file.is_gray) {
      ++file.values[map.labels[i]];
      file.shown[map.labels[i]] = color;
    }
    if (!file.is_gray || file.colors.size() < 256) ++file.colors[color];
    if (file.colors.size() > size_t(kMaxClasses) + 1) {
      throw DataError(fmt::format("more than {} colours: this is no label map", kMaxClasses + 1), path.string(),
                      "label files have one colour a class: saved without loss, resized by nearest neighbour, drawn without smoothing; "
                      "if others are the label files, name their folder (--labels)");
    }
  }
  return file;
}

// Class names that lie beside the pictures, with their colours where the file has them.
struct Named {
  std::string file;
  std::vector<std::string> names;
  Palette colors;  // as many, or none

  void add(const std::string& line);
};

std::optional<Color> color_of(const std::vector<std::string>& numbers) {
  if (numbers.size() != 3) return std::nullopt;
  Color color{};
  for (size_t i = 0; i < 3; ++i) {
    int value = -1;
    std::string text = numbers[i];
    std::erase(text, ' ');
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > 255) return std::nullopt;
    color[i] = uint8_t(value);
  }
  return color;
}

// "name" or "name r g b".
void Named::add(const std::string& line) {
  std::istringstream words(line);
  std::vector<std::string> all;
  for (std::string word; words >> word;) all.push_back(word);
  const auto color = all.size() < 4 ? std::nullopt : color_of({all.end() - 3, all.end()});
  names.push_back(color ? joined(std::span(all).first(all.size() - 3), " ") : line);
  if (color) colors.push_back(*color);
}

// "name", "3 name", "3: name" and "name,3" have an index; it counts where all lines have one and these count from 0 or 1.
void number_names(std::vector<std::string>& lines) {
  std::map<int, std::string> by_index;
  for (const std::string& line : lines) {
    const size_t digits = line.find_first_not_of("0123456789"), text = line.find_first_not_of(" \t:,", digits);
    if (digits == 0 || digits > 4 || digits == std::string::npos || text == std::string::npos || text == digits) return;
    if (!by_index.insert({std::stoi(line.substr(0, digits)), line.substr(text)}).second) return;
  }
  if (by_index.empty() || by_index.begin()->first > 1 || by_index.rbegin()->first - by_index.begin()->first + 1 != int(lines.size()))
    return;
  lines.clear();
  for (const auto& [index, name] : by_index) lines.push_back(name);
}

// "name,r,g,b" or "value,name" below a header; "name:r,g,b:parts:actions" beside comments; or a name each, with an index before it or a
// colour behind it.
Named parse_names(const fs::path& path) {
  Named named{path.filename().string(), {}, {}};
  const bool table = path.extension() == ".csv", map = named.file == "labelmap.txt";
  std::vector<std::string> lines;
  std::istringstream text(read_text(path, limits::kListFileBytes));
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);  // a byte order mark
    line.erase(line.find_last_not_of(" \t\r") + 1);
    line.erase(0, line.find_first_not_of(" \t"));
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  }
  for (const std::string& line : table || map ? lines : std::vector<std::string>()) {
    const size_t colon = map ? line.find(':') : std::string::npos;
    std::vector<std::string> fields;
    if (table)
      fields = csv_fields(line, path.string());
    else if (colon != std::string::npos)
      fields = csv_fields(line.substr(colon + 1, line.find(':', colon + 1) - colon - 1), path.string());
    if (map) fields.insert(fields.begin(), line.substr(0, colon));
    const auto color = fields.size() < 4 ? std::nullopt : color_of({fields[1], fields[2], fields[3]});
    if (!color) continue;  // the header
    named.names.push_back(fields[0]);
    named.colors.push_back(*color);
  }
  if (table && named.names.empty() && !lines.empty()) lines.erase(lines.begin());  // the header of values
  if (!map && named.names.empty()) {
    number_names(lines);
    for (const std::string& line : lines) named.add(line);
  }
  if (named.colors.size() != named.names.size()) named.colors.clear();
  return named;
}

// The first file of names in the root, or in a folder of pictures or of label files, or in one that holds such a folder.
std::optional<Named> read_names(const fs::path& root, const FoundData& found) {
  std::vector<fs::path> folders = {""};
  for (const auto& [split, pairs] : found.pairs) {
    for (const fs::path& file : {pairs.front().labels, pairs.front().image}) {
      for (fs::path folder = file.parent_path(); !folder.empty(); folder = folder.parent_path()) folders.push_back(folder);
    }
  }
  for (const fs::path& folder : folders) {
    for (const char* name : {"class_dict.csv", "class_dict_seg.csv", "labelmap.txt", "classes.txt", "class_names.txt", "_classes.csv"}) {
      std::error_code ignored;
      if (!fs::is_regular_file(root / folder / name, ignored)) continue;
      Named named = parse_names(root / folder / name);
      if (named.names.empty()) continue;
      named.file = (folder / name).generic_string();
      return named;
    }
  }
  return std::nullopt;
}

// What no configuration would take.
std::string fault_of(const Named& named) {
  if (named.names.size() > size_t(kMaxClasses)) return fmt::format("it has more than {} names", kMaxClasses);
  std::set<std::string> names;
  for (const std::string& name : named.names) {
    if (!is_plain_text(name)) return "a name is not UTF-8 or has control characters: " + quoted_for_message(name);
    if (!names.insert(name).second) return "a name occurs twice: " + name;
  }
  return "";
}

// Of pixels that nobody has labelled.
bool names_nothing(const std::string& name) {
  const std::string words[] = {"void", "ignore", "ignored", "unlabeled", "unlabelled", "unlabel", "don't care"};
  return std::find(std::begin(words), std::end(words), lower(name)) != std::end(words);
}

void remark_ignored(const std::string& name, FoundData& found) {
  found.remarks.push_back("\"" + name +
                          "\" is ignored, by its name: to count it, name it in data.classes and take it out of data.label_map");
}

// What is known of a key; a default of what is not.
template <class Map>
typename Map::mapped_type value_or(const Map& map, const typename Map::key_type& key, const typename Map::mapped_type& other) {
  const auto found = map.find(key);
  return found == map.end() ? other : found->second;
}

bool is_gray(const Color& color) { return color[0] == color[1] && color[1] == color[2]; }

// A class for each colour, in the order of the file that names them or else of the colours themselves.
void describe_colors(const std::map<Color, Counts>& seen, const std::optional<Named>& named, FoundData& found) {
  Palette order;
  std::vector<std::string> names;
  if (named && !named->colors.empty()) {
    order = named->colors;
    names = named->names;
  }
  const size_t known = order.size();
  for (const auto& [color, counts] : seen) {
    if (std::find(order.begin(), order.end(), color) == order.end() && color != kVocVoid) order.push_back(color);
  }
  if (known > 0 && order.size() > known) {
    found.remarks.push_back(fmt::format("{} does not name {} of the colours in the label files", named->file, order.size() - known));
  }
  const bool fits = named && named->colors.empty() && named->names.size() == order.size();
  const bool gray = std::all_of(order.begin(), order.end(), is_gray);  // values that a program has stored as colours
  for (size_t i = names.size(); i < order.size(); ++i) {
    names.push_back(fits                        ? named->names[i]
                    : gray && order.size() == 2 ? (i == 0 ? "background" : "foreground")
                    : gray                      ? fmt::format("value {}", order[i][0])
                                                : "color " + hex_text(order[i]));
  }
  Palette ignored;
  DataOptions& options = found.options;
  options.label_colors = true;
  const auto label = [&](const Color& color, const std::string& name) {
    const Counts of = value_or(seen, color, {});
    found.labels.push_back(
        {.value = -1, .color = color, .name = name, .pixels = of.pixels, .files = of.files, .train_files = of.train_files});
  };
  for (size_t i = 0; i < order.size(); ++i) {
    if (names_nothing(names[i])) {
      ignored.push_back(order[i]);
      remark_ignored(names[i], found);
      continue;
    }
    options.classes.push_back(names[i]);
    options.palette.push_back(order[i]);
    label(order[i], names[i]);
  }
  if (seen.contains(kVocVoid) && std::find(order.begin(), order.end(), kVocVoid) == order.end()) ignored.push_back(kVocVoid);
  for (const Color& color : ignored) {
    options.label_map.entries[int(options.palette.size())] = LabelMapOptions::kIgnore;
    options.label_map.other = "keep";
    options.palette.push_back(color);
    label(color, "");
  }
}

// A class for each value. 255 is ignored where the other values count from 0 or 1 without a gap and are two at least, unless there are as
// many names as values with it.
void describe_values(const std::map<int, Counts>& seen, const std::map<int, Color>& shown, const std::optional<Named>& named,
                     FoundData& found) {
  std::vector<int> values;
  for (const auto& [value, counts] : seen) values.push_back(value);
  const bool has_255 = values.back() == 255;
  const std::vector<int> others(values.begin(), values.end() - (has_255 ? 1 : 0));
  const bool counting = !others.empty() && others.front() <= 1 && others.back() - others.front() + 1 == int(others.size());
  const size_t names = named ? named->names.size() : 0;
  const bool ignores = has_255 && others.size() >= 2 && counting && names != values.size();
  std::vector<int> classes = ignores ? others : values;
  // Names tell of classes that the files looked into do not show.
  if (names > classes.size() && classes.back() < int(names)) {
    classes.clear();
    for (size_t i = 0; i < names; ++i) classes.push_back(int(i));
  }
  const bool fits = names == classes.size();
  if (named && !fits) {
    found.remarks.push_back(fmt::format("{} has {}, the label files have {}: it was not used", named->file, counted(int64_t(names), "name"),
                                        counted(int64_t(classes.size()), "value")));
  }
  DataOptions& options = found.options;
  const bool identity = classes.front() == 0 && classes.back() == int(classes.size()) - 1;
  const auto label = [&](int value, const std::string& name) {
    const Counts of = value_or(seen, value, {});
    found.labels.push_back({.value = value,
                            .color = value_or(shown, value, voc_palette()[size_t(value)]),
                            .name = name,
                            .pixels = of.pixels,
                            .files = of.files,
                            .train_files = of.train_files});
  };
  std::vector<int> ignored;
  Palette named_colors;
  for (size_t i = 0; i < classes.size(); ++i) {
    const std::string name = fits                  ? named->names[i]
                             : classes.size() == 2 ? (i == 0 ? "background" : "foreground")
                             : identity            ? fmt::format("class {}", i)
                                                   : fmt::format("value {}", classes[i]);
    if (fits && names_nothing(name)) {
      ignored.push_back(classes[i]);
      remark_ignored(name, found);
      continue;
    }
    options.label_map.entries[classes[i]] = int(options.classes.size());
    options.classes.push_back(name);
    if (fits && !named->colors.empty()) named_colors.push_back(named->colors[i]);
    label(classes[i], name);
  }
  for (const int value : ignored) label(value, "");
  if (ignores) label(255, "");
  // A class for each value from 0 on needs no map.
  const bool kept = identity && (ignored.empty() || ignored.front() == int(options.classes.size()));
  if (kept) options.label_map.entries.clear();
  if (kept && !ignored.empty()) options.label_map.other = "keep";
  for (const int value : ignored) options.label_map.entries[value] = LabelMapOptions::kIgnore;
  options.palette = named_colors;
  if (!options.palette.empty()) return;
  // The files' own colours, where each class has its own and they are not those of gray.
  std::set<Color> different;
  bool colored = false;
  for (const auto& [value, color] : shown) colored |= !is_gray(color);
  for (const FoundLabel& of : found.labels) {
    if (!of.name.empty()) different.insert(of.color);
  }
  if (!colored || different.size() != options.classes.size()) return;
  for (const FoundLabel& of : found.labels) {
    if (!of.name.empty()) options.palette.push_back(of.color);
  }
}

}  // namespace

size_t count_colors(const Image& image, size_t most) {
  std::set<Color> colors;
  for (size_t i = 0; i + 2 < image.pixels.size() && colors.size() < most; i += 3) {
    colors.insert({image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]});
  }
  return colors.size();
}

void discover_labels(const fs::path& root, const std::vector<fs::path>& files, size_t train_files, FoundData& found) {
  std::map<Color, Counts> colors;
  std::map<int, Counts> values;
  std::map<int, Color> shown;
  bool gray = true;
  constexpr size_t kAtOnce = 64;
  for (size_t first = 0; first < files.size(); first += kAtOnce) {
    std::vector<LabelFile> looked(std::min(kAtOnce, files.size() - first));
    parallel_for(int64_t(looked.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) looked[size_t(i)] = look_into(files[first + size_t(i)]);
    });
    for (size_t i = 0; i < looked.size(); ++i) {
      const LabelFile& file = looked[i];
      const bool of_train = first + i < train_files;
      gray &= file.is_gray;
      for (const auto& [color, pixels] : file.colors) colors[color].add(pixels, of_train);
      for (int value = 0; value < 256; ++value) {
        if (file.values[size_t(value)] == 0) continue;
        values[value].add(file.values[size_t(value)], of_train);
        shown.insert({value, *file.shown[size_t(value)]});
      }
    }
  }
  std::optional<Named> named;
  try {
    named = read_names(root, found);
  } catch (const DataError& error) {
    found.remarks.push_back(fmt::format("class names were not used: {} ({})", error.what_happened(), error.where()));
  }
  if (const std::string fault = named ? fault_of(*named) : ""; !fault.empty()) {
    found.remarks.push_back(named->file + " was not used: " + fault);
    named.reset();
  }
  // Files with a palette whose colours are all those of a named list are painted in them, whatever their values.
  const bool painted =
      named && std::all_of(colors.begin(), colors.end(), [&](const auto& seen) {
        return seen.first == kVocVoid || std::find(named->colors.begin(), named->colors.end(), seen.first) != named->colors.end();
      });
  const size_t kinds = gray && !painted ? values.size() : colors.size();
  if (kinds < 2) {
    throw DataError(gray ? fmt::format("all pixels of the label files are {}", values.begin()->first)
                         : "all pixels of the label files have one colour (transparency does not count)",
                    files.front().string(), "name the folder of the label files (--labels) if these are not they");
  }
  if (kinds > size_t(kMaxClasses)) {
    throw DataError(
        fmt::format("the label files have {} different {} between them: they are no label maps", kinds, gray ? "values" : "colours"),
        files.front().string(),
        "label files have one value or colour a class: saved without loss, resized by nearest neighbour; if others are the label "
        "files, name their folder (--labels)");
  }
  if (gray && !painted)
    describe_values(values, shown, named, found);
  else
    describe_colors(colors, named, found);
  constexpr size_t kManyUnnamed = 32;
  if (!named && kinds > kManyUnnamed) {
    found.remarks.push_back(fmt::format(
        "{} values or colours without names are many: label files that were smoothed, or saved as JPEG once, have such", kinds));
  }
  std::vector<std::string> absent;
  for (const FoundLabel& label : found.labels) {
    if (!label.name.empty() && label.train_files == 0) absent.push_back(label.name);
  }
  if (!absent.empty()) {
    found.options.checks = DataChecks::kFiles;
    found.remarks.push_back("classes that train's label files do not show: " + some_of(absent) +
                            "; data.checks \"files\" lets training begin");
  }
}

}  // namespace eq
