#include "training/checkpoint.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <type_traits>

#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/parallel.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "core/temporary_name.h"
#include "training/config_fields.h"

namespace eq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kFormat = "equiscale checkpoint";
constexpr int kFormatVersion = 1;
constexpr const char* kManifest = "manifest.json";
constexpr const char* kParts[] = {"model", "optimizer", "ema"};
constexpr const char* kTryOther = "restore the folder from a copy, or start a new run";

std::map<std::string, std::string> tensor_sums(const TensorMap& tensors) {
  std::vector<const Tensor*> values;
  std::vector<std::string> sums(tensors.size());
  for (const auto& entry : tensors) values.push_back(&entry.second);
  parallel_for(int64_t(values.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Tensor value = values[size_t(i)]->to(Device::cpu());
      sums[size_t(i)] = sha256_hex(value.raw_data(), value.bytes());
    }
  });
  std::map<std::string, std::string> result;
  size_t i = 0;
  for (const auto& entry : tensors) result[entry.first] = sums[i++];
  return result;
}

json card_to_json(const ModelCard& card) {
  json value = {{"library_version", EQ_VERSION},
                {"iteration", card.iteration},
                {"config", json::parse(card.config)},
                {"class_names", card.class_names},
                {"palette", card.palette}};
  if (!card.own_parts.empty()) value["own_parts"] = card.own_parts;
  if (card.miou) value["miou"] = *card.miou;
  return value;
}

// Values of a JSON that others may have written; each error names the file and the key.
class Manifest {
 public:
  Manifest(json root, std::string source) : root_(std::move(root)), source_(std::move(source)) {
    if (!root_.is_object()) fail("it is not a JSON object");
  }
  [[noreturn]] void fail(const std::string& what) const { throw DataError("not a usable checkpoint: " + what, source_, kTryOther); }

  const json& at(const char* key) const {
    const auto found = root_.find(key);
    if (found == root_.end()) fail("\"" + std::string(key) + "\" is missing");
    return *found;
  }
  template <class T>
  T get(const char* key) const {
    try {
      if constexpr (std::is_same_v<T, int64_t>) {
        if (const auto whole = whole_number(at(key))) return *whole;
        fail("\"" + std::string(key) + "\" is no whole number");
      }
      return at(key).get<T>();
    } catch (const json::exception&) {
      fail("\"" + std::string(key) + "\" has the wrong form");
    }
  }
  bool has(const char* key) const { return root_.contains(key); }
  const std::string& source() const { return source_; }

 private:
  json root_;
  std::string source_;
};

ModelCard card_from(const Manifest& manifest) {
  ModelCard card;
  card.library_version = manifest.get<std::string>("library_version");
  card.iteration = manifest.get<int64_t>("iteration");
  card.class_names = manifest.get<std::vector<std::string>>("class_names");
  try {
    card.palette = palette_from(manifest.at("palette").dump());
  } catch (const std::invalid_argument& rule) {
    manifest.fail("\"palette\" must be " + std::string(rule.what()));
  }
  if (!manifest.at("config").is_object()) manifest.fail("\"config\" has the wrong form");
  card.config = manifest.at("config").dump();
  if (manifest.has("own_parts")) card.own_parts = manifest.get<std::vector<std::string>>("own_parts");
  if (manifest.has("miou")) card.miou = manifest.get<double>("miou");
  if (card.iteration < 0) manifest.fail("\"iteration\" is negative");
  if (card.class_names.empty() || card.class_names.size() > 256) manifest.fail("\"class_names\" has the wrong length");
  for (const std::string& name : card.class_names) {
    if (!is_plain_text(name)) manifest.fail("a class name has control characters: " + quoted_for_message(name));
  }
  if (card.palette.size() < card.class_names.size()) manifest.fail("\"palette\" has too few colours");
  return card;
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifest;
  std::error_code error;
  if (!fs::exists(path, error) && !error) {  // of an error reading tells
    throw IoError("there is no checkpoint here", folder.string(),
                  "give the folder of a run that has written one (its checkpoint/manifest.json)");
  }
  Manifest manifest(parse_json(read_text(path, limits::kJsonBytes), path.string(), false), path.string());
  if (manifest.get<std::string>("format") != kFormat) manifest.fail("\"format\" is not \"" + std::string(kFormat) + "\"");
  const int64_t version = manifest.get<int64_t>("format_version");
  if (version != kFormatVersion) {
    manifest.fail(fmt::format("its format is version {}, this program reads version {}", version, kFormatVersion));
  }
  return manifest;
}

// The file names of a manifest are parts of paths: nothing but plain names of ours.
std::string checked_file_name(const Manifest& manifest, const std::string& name) {
  const bool plain = name.size() < 200 && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-.") == std::string::npos &&
                     name.find("..") == std::string::npos && name.size() > 12 && name.ends_with(".safetensors");
  if (!plain) manifest.fail("it names the file " + quoted_for_message(name));
  return name;
}

// A part's file and the checksums of its tensors; none if the checkpoint lacks the part.
std::optional<std::pair<fs::path, std::map<std::string, std::string>>> part_of(const fs::path& folder, const Manifest& manifest,
                                                                               const char* part) {
  const json& files = manifest.at("files");
  if (!files.is_object() || !files.contains(part)) return std::nullopt;
  std::string name;
  std::map<std::string, std::string> sums;
  try {
    name = files.at(part).at("file").get<std::string>();
    sums = files.at(part).at("sha256").get<std::map<std::string, std::string>>();
  } catch (const json::exception&) {
    manifest.fail("\"files." + std::string(part) + "\" has the wrong form");
  }
  return std::pair(folder / checked_file_name(manifest, name), std::move(sums));
}

TensorMap load_part(const fs::path& folder, const Manifest& manifest, const char* part) {
  const auto entry = part_of(folder, manifest, part);
  if (!entry) return {};
  const auto& [path, sums] = *entry;
  TensorMap tensors = read_safetensors(path).tensors;
  const std::map<std::string, std::string> found = tensor_sums(tensors);
  for (const auto& [tensor, sum] : sums) {
    const auto at = found.find(tensor);
    if (at == found.end()) throw DataError("the tensor \"" + tensor + "\" is missing", path.string(), kTryOther);
    if (at->second != sum) {
      throw DataError("the tensor \"" + tensor + "\" is damaged: its checksum is not that of the manifest", path.string(), kTryOther);
    }
  }
  for (const auto& [tensor, sum] : found) {
    if (!sums.count(tensor)) throw DataError("the tensor \"" + tensor + "\" is not in the manifest", path.string(), kTryOther);
  }
  return tensors;
}

bool is_ours(const std::string& name) {
  if (is_temporary_name(name)) return true;  // a write that a kill interrupted
  for (const char* part : kParts) {
    if (name.starts_with(std::string(part) + "-") && name.ends_with(".safetensors")) return true;
  }
  return false;
}

// Deletes files of ours that no manifest needs. Nothing depends on it, so failures are let pass.
void delete_others(const fs::path& folder, const std::set<std::string>& keep) {
  std::error_code ignored;
  std::vector<fs::path> old;
  for (auto entry = fs::directory_iterator(folder, ignored); entry != fs::directory_iterator(); entry.increment(ignored)) {
    const std::string name = entry->path().filename().string();
    if (is_ours(name) && !keep.count(name) && entry->is_regular_file(ignored)) old.push_back(entry->path());
  }
  for (const fs::path& path : old) fs::remove(path, ignored);
}

std::set<std::string> files_of_manifest(const fs::path& folder) {
  std::set<std::string> names;
  if (!has_checkpoint(folder)) return names;
  const Manifest manifest = read_manifest(folder);
  for (const auto& [part, entry] : manifest.at("files").items()) names.insert(entry.at("file").get<std::string>());
  return names;
}

}  // namespace

bool has_checkpoint(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / kManifest, error) || error;
}

void save_checkpoint(const fs::path& folder, const Checkpoint& checkpoint) {
  make_folder(folder);
  std::set<std::string> standing;
  try {
    standing = files_of_manifest(folder);
  } catch (const std::exception&) {  // damaged: it needs nothing
  }
  json manifest = card_to_json(checkpoint.card);
  manifest["format"] = kFormat;
  manifest["format_version"] = kFormatVersion;
  manifest["seconds"] = checkpoint.seconds;
  const LossInterval& interval = checkpoint.interval;
  manifest["interval"] = {interval.steps, interval.loss, interval.main_loss, interval.aux_loss, interval.seconds, interval.wait};
  manifest["step_times"] = {checkpoint.times.steps, checkpoint.times.seconds, checkpoint.times.wait};
  for (const auto& [split, print] : checkpoint.data) manifest["data"][split] = {{"pictures", print.pictures}, {"names", print.names}};
  manifest["files"] = json::object();
  std::set<std::string> names;
  const TensorMap* parts[] = {&checkpoint.model, &checkpoint.optimizer, &checkpoint.ema};
  try {
    for (int i = 0; i < 3; ++i) {
      if (parts[i]->empty()) continue;
      const auto sums = tensor_sums(*parts[i]);
      const std::string text = json(sums).dump();
      const std::string name =
          fmt::format("{}-{:08d}-{}.safetensors", kParts[i], checkpoint.card.iteration, sha256_hex(text.data(), text.size()).substr(0, 16));
      write_safetensors(folder / name, *parts[i]);
      manifest["files"][kParts[i]] = {{"file", name}, {"sha256", sums}};
      names.insert(name);
    }
    const std::string text = manifest.dump(1);
    if (text.size() > limits::kJsonBytes) {
      throw UsageError("the manifest would be larger than a JSON file may be", (folder / kManifest).string(), "a model with fewer tensors");
    }
    write_text_atomically(folder / kManifest, text);
  } catch (...) {
    // Room for the next attempt: the files that no manifest names, neither the one that is there nor the one before. They differ where the
    // new one was put in its place and the folder could not be synced: then the machine's next start may bring the old one back.
    try {
      standing.merge(files_of_manifest(folder));
      delete_others(folder, standing);
    } catch (const std::exception&) {  // the first error is the one to report
    }
    throw;
  }
  delete_others(folder, names);
}

Checkpoint load_checkpoint(const fs::path& folder) {
  const Manifest manifest = read_manifest(folder);
  Checkpoint checkpoint;
  checkpoint.card = card_from(manifest);
  checkpoint.seconds = manifest.get<double>("seconds");
  if (manifest.has("interval")) {  // older ones have none
    const auto sums = manifest.get<std::vector<double>>("interval");
    if (sums.size() != 6 || !(sums[0] >= 0 && sums[0] < 1e15)) manifest.fail("\"interval\" has the wrong form");
    checkpoint.interval = {int64_t(sums[0]), sums[1], sums[2], sums[3], sums[4], sums[5]};
  }
  if (manifest.has("step_times")) {
    const auto times = manifest.get<std::vector<double>>("step_times");
    if (times.size() != 3 || !(times[0] >= 0 && times[0] < 1e15)) manifest.fail("\"step_times\" has the wrong form");
    checkpoint.times = {int64_t(times[0]), times[1], times[2]};
  }
  if (manifest.has("data")) {
    for (const auto& [split, print] : manifest.get<std::map<std::string, json>>("data")) {
      const Manifest part(print, manifest.source());
      checkpoint.data[split] = {part.get<int64_t>("pictures"), part.get<std::string>("names")};
    }
  }
  checkpoint.model = load_part(folder, manifest, "model");
  checkpoint.optimizer = load_part(folder, manifest, "optimizer");
  checkpoint.ema = load_part(folder, manifest, "ema");
  if (checkpoint.model.empty()) manifest.fail("it has no model");
  return checkpoint;
}

fs::path checkpoint_weights_file(const fs::path& folder) {
  const Manifest manifest = read_manifest(folder);
  for (const char* part : {"ema", "model"}) {
    if (const auto entry = part_of(folder, manifest, part)) return entry->first;
  }
  manifest.fail("it has no model");
}

ModelCard load_checkpoint_card(const fs::path& folder) { return card_from(read_manifest(folder)); }

std::string write_card(const ModelCard& card) { return card_to_json(card).dump(); }

ModelCard read_card(const std::string& text, const std::string& source) {
  return card_from(Manifest(parse_json(text, source, false), source));
}

void load_weights(Module& model, const TensorMap& state, const std::string& source) {
  for (const Module::NamedTensor& parameter : model.named_parameters()) {
    if (parameter.name.find("conv_seg.") == std::string::npos) continue;  // the classifiers
    const auto found = state.find(parameter.name);
    if (found == state.end() || found->second.rank() < 1 || found->second.size(0) == parameter.tensor.size(0)) continue;
    throw DataError(fmt::format("the file is of a model with {} classes, this one has {} (tensor {})", found->second.size(0),
                                parameter.tensor.size(0), parameter.name),
                    source, "use weights and data of the same classes, or give the old network's backbone as model.backbone.pretrained");
  }
  model.load_state_dict(state, true, source);
}

}  // namespace eq
