#include "training/config_fields.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "core/errors.h"
#include "core/json.h"
#include "core/limits.h"
#include "datasets/dataset.h"

namespace eq {
namespace {

using nlohmann::json;

// The values that are more than a number or a text: from the JSON of the file, and back to it.

std::map<std::string, std::string> list_from(const std::string& text) {
  const std::string rule = "an object of one list file for each split";
  const json value = json::parse(text);
  if (!value.is_object()) throw std::invalid_argument(rule);
  std::map<std::string, std::string> list;
  for (const auto& [split, file] : value.items()) {
    if (!file.is_string()) throw std::invalid_argument(rule);
    list[split] = file.get<std::string>();
  }
  return list;
}

// One suffix, or several.
std::vector<std::string> suffixes_from(const std::string& text) {
  const json value = json::parse(text), all = value.is_array() ? value : json::array({value});
  const bool texts = std::all_of(all.begin(), all.end(), [](const json& suffix) { return suffix.is_string(); });
  if (all.empty() || !texts) throw std::invalid_argument("a suffix such as \".jpg\", or a list of them");
  return all.get<std::vector<std::string>>();
}

json suffixes_to(const std::vector<std::string>& suffixes) { return suffixes.size() == 1 ? json(suffixes[0]) : json(suffixes); }

DataChecks checks_from(const std::string& text) {
  if (text == "true") return DataChecks::kAll;
  if (text == "false") return DataChecks::kNone;
  if (text == "\"files\"") return DataChecks::kFiles;
  throw std::invalid_argument("true, \"files\" or false");
}

json checks_to(DataChecks checks) { return checks == DataChecks::kFiles ? json("files") : json(checks == DataChecks::kAll); }

// "label_map": a preset's name, or {"7": 0, "8": "ignore", "other": "error"}.
LabelMapOptions label_map_from(const std::string& text) {
  const json value = json::parse(text);
  const std::string rule =
      "the name of a preset, or an object such as {\"7\": 0, \"8\": \"ignore\", \"other\": \"ignore\"} with values 0 to 255";
  LabelMapOptions options;
  if (value.is_string()) {
    options.preset = value.get<std::string>();
    return options;
  }
  if (!value.is_object()) throw std::invalid_argument(rule);
  for (const auto& [key, target] : value.items()) {
    if (key == "other") {
      if (value.size() == 1) throw std::invalid_argument(rule + ", and \"other\" not alone");
      const bool a_class = target.is_number_unsigned() && target.get<uint64_t>() < 255;
      if (!a_class && target != "error" && target != "ignore" && target != "keep") {
        throw std::invalid_argument("\"error\", \"ignore\", \"keep\" or a class under \"other\"");
      }
      options.other = a_class ? target.dump() : target.get<std::string>();
      continue;
    }
    const bool digits = !key.empty() && key.size() <= 3 && key.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stoi(key) > 255) throw std::invalid_argument(rule);
    if (target.is_string() && target.get<std::string>() == "ignore") {
      options.entries[std::stoi(key)] = LabelMapOptions::kIgnore;
    } else if (target.is_number_unsigned() && target.get<uint64_t>() <= 255) {
      options.entries[std::stoi(key)] = target.get<int>();
    } else {
      throw std::invalid_argument(rule);
    }
  }
  return options;
}

json label_map_to(const LabelMapOptions& options) {
  if (options.entries.empty() && options.other == "error") return options.preset;
  json value = json::object();
  for (const auto& [from, to] : options.entries) {
    value[std::to_string(from)] = to == LabelMapOptions::kIgnore ? json("ignore") : json(to);
  }
  const bool a_class = !options.other.empty() && options.other.find_first_not_of("0123456789") == std::string::npos;
  value["other"] = a_class ? json::parse(options.other) : json(options.other);
  return value;
}

template <class Map>
std::vector<std::string> keys_of(const Map& map) {
  std::vector<std::string> keys;
  for (const auto& entry : map) keys.push_back(entry.first);
  return keys;
}

void check_names(const std::vector<std::string>& classes) {
  std::set<std::string> names;
  for (const std::string& name : classes) {
    if (!is_plain_text(name)) {
      throw UsageError("a class name is not UTF-8 or has control characters: " + quoted_for_message(name), "data.classes",
                       "name the classes in plain text");
    }
    if (names.insert(name).second) continue;
    throw UsageError("two classes have the name \"" + name + "\"", "data.classes", "give each class a name of its own");
  }
}

void visit_data(Fields& f, DataOptions& o) {
  f.text("type", o.type, dataset_names());
  f.text("root", o.root);
  f.integer("size", o.size, 64, 256);
  f.integer("train_images", o.train_images, 0);
  f.integer("val_images", o.val_images, 1, 1'000'000);
  f.object("difficulty", [&](Fields& d) {
    d.integer("noise", o.difficulty.noise, 0, 128);
    d.number("contrast", o.difficulty.contrast, 0.05, 1);
    d.integer("blur", o.difficulty.blur, 0, 8);
  });
  f.text("wrong_labels", o.wrong_labels, {"", "shift", "binary", "swapped"});
  f.any("list", [&](const std::string& text) { o.list = list_from(text); }, [&] { return json(o.list).dump(); });
  f.object("folders", [&](Fields& folders) {
    folders.any("image_suffix", [&](const std::string& text) { o.image_suffix = suffixes_from(text); },
                [&] { return suffixes_to(o.image_suffix).dump(); });
    folders.text("label_suffix", o.label_suffix);
    folders.other_objects(keys_of(o.folders), [&](Fields& split, const std::string& name) {
      FolderPair& pair = o.folders[name];
      split.text("images", pair.images);
      split.text("labels", pair.labels);
    });
  });
  f.number("val_fraction", o.val_fraction, 0, 0.9);
  f.integer("split_seed", o.split_seed, 0);
  f.texts("classes", o.classes);
  check_names(o.classes);
  f.any("palette", [&](const std::string& text) { o.palette = palette_from(text); }, [&] { return json(o.palette).dump(); });
  f.any("label_map", [&](const std::string& text) { o.label_map = label_map_from(text); },
        [&] { return label_map_to(o.label_map).dump(); });
  f.flag("label_colors", o.label_colors);
  f.flag("augmented_list", o.augmented_list);
  f.any("checks", [&](const std::string& text) { o.checks = checks_from(text); }, [&] { return checks_to(o.checks).dump(); });
}

void visit_pipeline(Fields& f, PipelineOptions& o) {
  bool resize = o.resize.has_value();
  f.optional_object("resize", resize, [&](Fields& r) {
    if (!o.resize) o.resize.emplace();
    r.integers("scale", o.resize->scale, 1, limits::kPictureSide);
    r.numbers("ratio_range", o.resize->ratio_range, 1e-3, 64);
  });
  if (!resize) o.resize.reset();
  f.optional_pair("crop", o.crop, 1, limits::kPictureSide);
  f.number("max_class_share", o.max_class_share, 0, 1);
  f.number("flip", o.flip, 0, 1);
  f.number("vertical_flip", o.vertical_flip, 0, 1);
  f.number("rotate90", o.rotate90, 0, 1);
  f.flag("photometric", o.photometric);
  f.numbers("mean", o.mean, -1e6, 1e6);
  f.numbers("std", o.std, 1e-6, 1e6);
  f.optional_pair("test_scale", o.test_scale, 1, limits::kPictureSide);
}

void visit_head(Fields& f, HeadOptions& o) {
  f.text("type", o.type);
  f.integer("channels", o.channels, 1, 65536);
  std::vector<int64_t> levels(o.in_index.begin(), o.in_index.end());
  f.integers("in_index", levels, 0, 64);
  o.in_index.assign(levels.begin(), levels.end());
  f.integers("pool_scales", o.pool_scales, 1, 1024);
  f.integers("dilations", o.dilations, 1, 1024);
  f.integer("c1_channels", o.c1_channels, 0, 65536);
  f.small("c1_level", o.c1_level, 0, 64);
  f.text("input_transform", o.input_transform);
  f.small("num_convs", o.num_convs, 0, 64);
  f.small("kernel_size", o.kernel_size, 1, 31);
  f.flag("concat_input", o.concat_input);
  f.number("dropout", o.dropout, -1, 0.999);
}

void visit_model(Fields& f, ModelOptions& o) {
  f.object("backbone", [&](Fields& b) {
    b.text("type", o.backbone.type);
    b.small("depth", o.backbone.depth, 1, 1000);
    b.text("stem", o.backbone.stem);
    b.integer("width", o.backbone.width, 1, 4096);
    b.number("multiplier", o.backbone.multiplier, 1e-3, 16);
    b.text("variant", o.backbone.variant);
    b.number("drop_path", o.backbone.drop_path, 0, 0.999);
    b.small("output_stride", o.backbone.output_stride, 1, 64);
    b.text("pretrained", o.backbone.pretrained);
    b.text("load_mode", o.backbone.load_mode, {"strict", "backbone"});
  });
  f.object("decode_head", [&](Fields& head) { visit_head(head, o.decode_head); });
  bool auxiliary = !o.auxiliary_head.type.empty();
  f.optional_object("auxiliary_head", auxiliary, [&](Fields& head) {
    if (o.auxiliary_head.type.empty()) {  // what mmsegmentation's recipes put there
      o.auxiliary_head = HeadOptions{.type = "fcn", .channels = 256, .in_index = {2}, .num_convs = 1, .concat_input = false};
    }
    visit_head(head, o.auxiliary_head);
  });
  if (!auxiliary) o.auxiliary_head = {};
  f.text("init_from", o.init_from);
  f.flag("align_corners", o.align_corners);
  f.text("upsampling", o.upsampling, {"bilinear", "nearest"});
}

void visit_equalizer(Fields& f, EqualizerOptions& o) {
  f.text("mode", o.mode, equalizer_modes());
  f.texts("sites", o.sites);
  f.text("inputs", o.inputs, {"all", "upsampled", "matched"});
  f.text("granularity", o.granularity, {"scalar", "channel"});
  f.text("constants", o.constants, {"measured", "analytic"});
  f.text("measure", o.measure, {"together", "in_turn"});
  f.integer("batches", o.batches, 1, 1'000'000);
  f.number("floor", o.floor, 1e-30, 1);
  f.flag("center", o.center);
  f.number("exponent", o.exponent, 0, 1);
  f.integer("refresh", o.refresh, 0);
}

void visit_train(Fields& f, TrainOptions& o) {
  f.integer("iterations", o.iterations, 1, 1'000'000'000);
  f.integer("batch_size", o.batch_size, 1, 65536);
  f.integer("accumulate", o.accumulate, 1, 65536);
  f.number("clip_norm", o.clip_norm, 0);
  f.number("ema", o.ema, 0, 0.9999999);
  f.number("aux_weight", o.aux_weight, 0);
  f.numbers("class_weights", o.class_weights, 0, Fields::kInfinity);
  f.texts("freeze", o.freeze);
  f.texts("norm_eval", o.norm_eval);
  f.text("precision", o.precision, {"float32", "bf16"});
  f.text("reduction", o.reduction, {"mean_all", "mean_valid"});
  bool ohem = o.ohem.has_value();
  f.optional_object("ohem", ohem, [&](Fields& h) {
    if (!o.ohem) o.ohem.emplace();
    h.number("threshold", o.ohem->threshold, 1e-30, 1);
    h.integer("min_kept", o.ohem->min_kept, 0);
  });
  if (!ohem) o.ohem.reset();
  f.number("dice_weight", o.dice_weight, 0);
  f.integer("log_every", o.log_every, 0);
  f.integer("evaluate_every", o.evaluate_every, 0);
  f.integer("checkpoint_every", o.checkpoint_every, 0);
  f.flag("keep_best", o.keep_best);
  f.integer("overlays", o.overlays, 0, 10'000);
  f.flag("tensorboard", o.tensorboard);
  f.integer("loader_threads", o.loader_threads, 0, 64);
  f.text("on_nan", o.on_nan, {"stop", "dump"});
}

void visit_probes(Fields& f, ProbeOptions& o) {
  f.integer("every", o.every, 0);
  f.flag("layers", o.layers);
}

}  // namespace

Palette palette_from(const std::string& text) {
  const std::string rule = "a list of colours [red, green, blue] of 0 to 255";
  const json value = json::parse(text);
  if (!value.is_array()) throw std::invalid_argument(rule);
  const auto is_byte = [](const json& part) { return part.is_number_unsigned() && part.get<uint64_t>() <= 255; };
  Palette palette;
  for (const json& color : value) {
    if (!color.is_array() || color.size() != 3 || !std::all_of(color.begin(), color.end(), is_byte)) throw std::invalid_argument(rule);
    palette.push_back(color.get<Color>());
  }
  if (palette.size() > 256) throw std::invalid_argument("a list of at most 256 colours");
  return palette;
}

void visit_optimizer(Fields& f, OptimizerOptions& o) {
  f.text("type", o.type, {"sgd", "adamw"});
  f.number("lr", o.lr, 0);
  f.number("momentum", o.momentum, 0, 0.9999999);
  f.flag("nesterov", o.nesterov);
  f.numbers("betas", o.betas, 0, 0.9999999999);
  f.number("eps", o.eps, 1e-300);
  f.number("weight_decay", o.weight_decay, 0);
  f.objects("groups", o.groups.size(), [&](size_t n) { o.groups.assign(n, {}); }, [&](Fields& group, size_t i) {
    group.text("pattern", o.groups[i].pattern);
    group.number("lr_mult", o.groups[i].lr_mult, 0);
    group.number("decay_mult", o.groups[i].decay_mult, 0);
  });
  for (size_t i = 0; i < o.groups.size(); ++i) {
    if (!o.groups[i].pattern.empty()) continue;
    throw UsageError("the pattern is missing", "optimizer.groups[" + std::to_string(i) + "]",
                     "say which parameters: {\"pattern\": \"norm\", \"lr_mult\": 2}");
  }
}

void visit_schedule(Fields& f, ScheduleOptions& o) {
  f.text("type", o.type, {"poly", "cosine", "constant"});
  f.number("power", o.power, 0);
  f.number("min_lr", o.min_lr, 0);
  f.integer("warmup_iterations", o.warmup_iterations, 0);
  f.number("warmup_ratio", o.warmup_ratio, 0, 1);
}

void visit_evaluate(Fields& f, EvaluateOptions& o) {
  f.text("mode", o.mode, {"whole", "slide"});
  f.integers("crop", o.crop, 1, limits::kPictureSide);
  f.integers("stride", o.stride, 1, limits::kPictureSide);
  f.integer("batch_size", o.batch_size, 1, 65536);
  f.numbers("scales", o.scales, 0.05, 8);
  f.flag("flip", o.flip);
}

void visit_config(Fields& f, Config& c) {
  f.integer("seed", c.seed, 0, std::numeric_limits<int64_t>::max());
  f.object("data", [&](Fields& s) { visit_data(s, c.data); });
  f.object("pipeline", [&](Fields& s) { visit_pipeline(s, c.pipeline); });
  f.object("model", [&](Fields& s) { visit_model(s, c.model); });
  f.object("equalizer", [&](Fields& s) { visit_equalizer(s, c.model.equalizer); });
  f.object("train", [&](Fields& s) { visit_train(s, c.train); });
  f.object("optimizer", [&](Fields& s) { visit_optimizer(s, c.optimizer); });
  f.object("schedule", [&](Fields& s) { visit_schedule(s, c.schedule); });
  f.object("evaluate", [&](Fields& s) { visit_evaluate(s, c.evaluate); });
  f.object("probes", [&](Fields& s) { visit_probes(s, c.probes); });
}

}  // namespace eq
