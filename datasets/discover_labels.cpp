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
  int64_t pixels = 0, files = 0;
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

// "name,r,g,b" below a header; "name:r,g,b:parts:actions" beside comments; or a name each, after its index where it has one, before its
// colour where it has one.
std::optional<Named> read_names(const fs::path& root) {
  for (const char* name : {"class_dict.csv", "labelmap.txt", "classes.txt", "class_names.txt"}) {
    const fs::path path = root / name;
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) continue;
    Named named{name, {}, {}};
    const bool table = name == std::string("class_dict.csv"), map = name == std::string("labelmap.txt");
    std::istringstream lines(read_text(path, limits::kListFileBytes));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.find_first_not_of(" \t") == std::string::npos || line[0] == '#') continue;
      if (table || map) {
        std::vector<std::string> fields;
        if (table) {
          fields = csv_fields(line, path.string());
        } else {
          const size_t colon = line.find(':');
          fields =
              csv_fields(colon == std::string::npos ? "" : line.substr(colon + 1, line.find(':', colon + 1) - colon - 1), path.string());
          fields.insert(fields.begin(), line.substr(0, colon));
        }
        const auto color = fields.size() < 4 ? std::nullopt : color_of({fields[1], fields[2], fields[3]});
        if (!color) continue;  // the header
        named.names.push_back(fields[0]);
        named.colors.push_back(*color);
      } else {
        const size_t digits = line.find_first_not_of("0123456789"), text = line.find_first_not_of(" \t:,", digits);
        const bool numbered = digits > 0 && digits != std::string::npos && std::string(" \t:,").find(line[digits]) != std::string::npos;
        named.add(numbered && text != std::string::npos ? line.substr(text) : line);
      }
    }
    if (named.colors.size() != named.names.size()) named.colors.clear();
    if (!named.names.empty()) return named;
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
  for (size_t i = names.size(); i < order.size(); ++i) {
    names.push_back(fits ? named->names[i] : fmt::format("color #{:02x}{:02x}{:02x}", order[i][0], order[i][1], order[i][2]));
  }
  DataOptions& options = found.options;
  options.label_colors = true;
  options.classes = names;
  options.palette = order;
  const auto label = [&](const Color& color, const std::string& name) {
    const auto counts = seen.find(color);
    const Counts none;
    const Counts& of = counts == seen.end() ? none : counts->second;
    found.labels.push_back({.value = -1, .color = color, .name = name, .pixels = of.pixels, .files = of.files});
  };
  for (size_t i = 0; i < order.size(); ++i) label(order[i], names[i]);
  if (!seen.contains(kVocVoid) || (std::find(order.begin(), order.end(), kVocVoid) != order.end())) return;
  options.palette.push_back(kVocVoid);
  options.label_map.entries = {{int(order.size()), LabelMapOptions::kIgnore}};
  options.label_map.other = "keep";
  label(kVocVoid, "");
}

// A class for each value. 255 is ignored where the other values count from 0 or 1 without a gap and are two at least.
void describe_values(const std::map<int, Counts>& seen, const std::map<int, Color>& shown, const std::optional<Named>& named,
                     FoundData& found) {
  std::vector<int> values;
  for (const auto& [value, counts] : seen) values.push_back(value);
  const bool has_255 = values.back() == 255;
  const std::vector<int> others(values.begin(), values.end() - (has_255 ? 1 : 0));
  const auto counting = [](const std::vector<int>& all) {
    return !all.empty() && all.front() <= 1 && all.back() - all.front() + 1 == int(all.size());
  };
  const bool ignores = has_255 && others.size() >= 2 && counting(others);
  std::vector<int> classes = ignores ? others : values;
  // Names tell of classes that the files looked into do not show.
  const bool from_zero = counting(others) && others.front() == 0;
  if (named && from_zero && named->names.size() > classes.size() && (ignores || !has_255) && named->names.size() <= size_t(kMaxClasses)) {
    classes.clear();
    for (size_t i = 0; i < named->names.size(); ++i) classes.push_back(int(i));
  }
  const bool fits = named && named->names.size() == classes.size();
  if (named && !fits) {
    found.remarks.push_back(fmt::format("{} has {}, the label files have {}: it was not used", named->file,
                                        counted(int64_t(named->names.size()), "name"), counted(int64_t(classes.size()), "value")));
  }
  DataOptions& options = found.options;
  const bool identity = classes.front() == 0 && classes.back() == int(classes.size()) - 1;
  for (size_t i = 0; i < classes.size(); ++i) {
    const std::string name = fits                  ? named->names[i]
                             : classes.size() == 2 ? (i == 0 ? "background" : "foreground")
                             : identity            ? fmt::format("class {}", i)
                                                   : fmt::format("value {}", classes[i]);
    const auto counts = seen.find(classes[i]);
    const auto color = shown.find(classes[i]);
    options.classes.push_back(name);
    found.labels.push_back({.value = classes[i],
                            .color = color == shown.end() ? voc_palette()[size_t(classes[i])] : color->second,
                            .name = name,
                            .pixels = counts == seen.end() ? 0 : counts->second.pixels,
                            .files = counts == seen.end() ? 0 : counts->second.files});
    if (!identity) options.label_map.entries[classes[i]] = int(i);
  }
  if (ignores) {
    const Counts& counts = seen.at(255);
    found.labels.push_back({.value = 255, .color = {}, .name = "", .pixels = counts.pixels, .files = counts.files});
  }
  if (fits && !named->colors.empty()) {
    options.palette = named->colors;
    return;
  }
  // The files' own colours, where each class has its own and they are not those of gray.
  std::set<Color> different;
  bool colored = false;
  for (const FoundLabel& label : found.labels) {
    if (label.name.empty()) continue;
    different.insert(label.color);
    colored |= label.color[0] != label.color[1] || label.color[1] != label.color[2];
  }
  if (!colored || different.size() != classes.size()) return;
  for (const FoundLabel& label : found.labels) {
    if (!label.name.empty()) options.palette.push_back(label.color);
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

void discover_labels(const fs::path& root, const std::vector<fs::path>& files, FoundData& found) {
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
    for (const LabelFile& file : looked) {
      gray &= file.is_gray;
      for (const auto& [color, pixels] : file.colors) colors[color].pixels += pixels, ++colors[color].files;
      for (int value = 0; value < 256; ++value) {
        if (file.values[size_t(value)] == 0) continue;
        values[value].pixels += file.values[size_t(value)];
        ++values[value].files;
        shown.insert({value, *file.shown[size_t(value)]});
      }
    }
  }
  auto named = read_names(root);
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
    throw DataError("all pixels of the label files are the same", files.front().string(),
                    "name the folder of the label files (--labels) if these are not they");
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
  for (size_t i = 0; i < found.options.classes.size(); ++i) {
    const std::string name = lower(found.options.classes[i]);
    for (const char* word : {"unlabel", "void", "ignore", "don't care"}) {
      if (name.find(word) == std::string::npos) continue;
      found.remarks.push_back(
          fmt::format("\"{}\" counts as a class; \"ignore\" in data.label_map would leave its pixels out", found.options.classes[i]));
    }
  }
}

}  // namespace eq
