#include "training/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/errors.h"
#include "datasets/loader.h"
#include "core/limits.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {
Config parse(const std::string& text, const std::vector<std::string>& settings = {}) { return parse_config(text, "run.json", settings); }
}  // namespace

TEST_CASE("an empty configuration is the defaults, and written out it reads back the same", "[config]") {
  const Config config = parse("{}");
  CHECK(config.train.iterations == 1000);
  CHECK(config.model.decode_head.type == "uper");
  CHECK(config.model.auxiliary_head.type.empty());
  CHECK_FALSE(config.pipeline.resize.has_value());
  CHECK_FALSE(config.train.ohem.has_value());
  const std::string text = to_json_text(config);
  CHECK(to_json_text(parse(text)) == text);
}

TEST_CASE("every section is read, comments allowed", "[config]") {
  const Config config = parse(R"({
    // what to train on
    "seed": 7,
    "data": {"type": "folders", "root": "pictures", "list": {"train": "t.txt", "val": "v.txt"},
             "folders": {"train": {"images": "i", "labels": "l"}, "image_suffix": ".png"},
             "classes": ["a", "b"], "palette": [[1, 2, 3], [4, 5, 255]],
             "label_map": {"7": 0, "8": "ignore", "other": "ignore"}, "label_colors": true, "checks": "files"},
    "pipeline": {"resize": {"scale": [480, 360], "ratio_range": [0.75, 1.75]}, "crop": [256, 128], "flip": 0, "mean": [0, 0, 0],
                 "test_scale": [640, 480]},
    "model": {"backbone": {"depth": 50, "output_stride": 8, "width": 32}, "decode_head": {"channels": 64, "in_index": [0, 3]},
              "auxiliary_head": {"channels": 16}, "align_corners": true},
    "equalizer": {"mode": "explicit", "inputs": "upsampled", "granularity": "channel", "batches": 4, "floor": 1e-3},
    "train": {"iterations": 1e4, "class_weights": [1, 0.5], "reduction": "mean_valid",
              "ohem": {"threshold": 0.9}, "dice_weight": 0.5},
    "optimizer": {"type": "adamw", "betas": [0.8, 0.95], "groups": [{"pattern": "norm", "decay_mult": 0}, {"pattern": "head", "lr_mult": 10}]},
    "schedule": {"type": "cosine", "warmup_iterations": 5},
    "evaluate": {"mode": "slide", "crop": [64, 96], "stride": [32, 48], "scales": [0.5, 1], "flip": true}
  })");
  CHECK(config.seed == 7);
  CHECK(config.data.list.at("val") == "v.txt");
  CHECK(config.data.folders.at("train").labels == "l");
  CHECK(config.data.image_suffix == std::vector<std::string>{".png"});
  CHECK(config.data.palette[1][2] == 255);
  CHECK(config.data.label_map.entries.at(8) == LabelMapOptions::kIgnore);
  CHECK(config.data.label_map.other == "ignore");
  CHECK(config.pipeline.resize->ratio_range[1] == 1.75);
  CHECK((*config.pipeline.crop)[1] == 128);
  CHECK((*config.pipeline.test_scale)[0] == 640);
  CHECK(config.model.backbone.depth == 50);
  CHECK(config.model.decode_head.in_index == std::vector<int>{0, 3});
  CHECK(config.model.auxiliary_head.type == "fcn");
  CHECK(config.model.auxiliary_head.channels == 16);
  CHECK(config.model.auxiliary_head.in_index == std::vector<int>{2});
  CHECK(config.model.equalizer.granularity == "channel");
  CHECK(config.train.iterations == 10000);
  CHECK(config.train.class_weights == std::vector<double>{1, 0.5});
  CHECK(config.train.ohem->threshold == 0.9);
  CHECK(config.train.ohem->min_kept == 100000);
  CHECK(config.train.dice_weight == 0.5);
  CHECK(config.optimizer.groups[1].lr_mult == 10);
  CHECK(config.optimizer.groups[0].decay_mult == 0);
  CHECK(config.evaluate.stride[1] == 48);
  CHECK(config.evaluate.scales == std::vector<double>{0.5, 1});
  CHECK(config.evaluate.flip);
  const std::string text = to_json_text(config);
  CHECK(to_json_text(parse(text)) == text);
  CHECK(config_differences(config, parse(text)).empty());
}

TEST_CASE("unknown keys are refused with their path and the nearest name", "[config]") {
  CHECK_THROWS_WITH(parse(R"({"equaliser": {}})"), Contains("equaliser") && Contains("did you mean 'equalizer'") && Contains("run.json"));
  CHECK_THROWS_WITH(parse(R"({"train": {"iteratoins": 5}})"), Contains("train.iteratoins") && Contains("'iterations'"));
  CHECK_THROWS_WITH(parse(R"({"optimizer": {"groups": [{"pattern": "a"}, {"patern": "b"}]}})"), Contains("optimizer.groups[1].patern"));
  CHECK_THROWS_WITH(parse(R"({"data": {"folders": {"train": {"image": "i"}}}})"), Contains("data.folders.train.image"));
  CHECK_THROWS_AS(parse("{}", {"train.batchsize=4"}), UsageError);
}

TEST_CASE("types and ranges are checked with the key's path", "[config]") {
  const auto refuses = [](const std::string& text, const std::string& path) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse(text), Contains(path));
    CHECK_THROWS_AS(parse(text), UsageError);
  };
  refuses("[]", "configuration");
  refuses("3", "configuration");
  refuses(R"({"seed": -1})", "seed");
  refuses(R"({"seed": 18446744073709551615})", "seed");
  refuses(R"({"train": 5})", "train must be an object");
  refuses(R"({"train": {"iterations": 0}})", "train.iterations");
  refuses(R"({"train": {"iterations": 2.5}})", "train.iterations");
  refuses(R"({"train": {"iterations": "10"}})", "train.iterations");
  refuses(R"({"train": {"ema": 1}})", "train.ema");
  refuses(R"({"train": {"class_weights": [1, -1]}})", "train.class_weights[1]");
  refuses(R"({"train": {"ohem": {"threshold": 0}}})", "train.ohem.threshold");
  refuses(R"({"train": {"ohem": {"threshold": 1.5}}})", "train.ohem.threshold");
  refuses(R"({"train": {"ohem": {"min_kept": -1}}})", "train.ohem.min_kept");
  refuses(R"({"train": {"ohem": 0.7}})", "train.ohem");
  refuses(R"({"train": {"dice_weight": -1}})", "train.dice_weight");
  refuses(R"({"optimizer": {"lr": -0.1}})", "optimizer.lr");
  refuses(R"({"optimizer": {"betas": [0.9]}})", "optimizer.betas must be a list of 2 numbers");
  refuses(R"({"optimizer": {"type": "adamm"}})", "did you mean 'adamw'");
  refuses(R"({"optimizer": {"groups": {"pattern": "x"}}})", "optimizer.groups");
  refuses(R"({"pipeline": {"crop": [0, 10]}})", "pipeline.crop[0]");
  refuses(R"({"pipeline": {"crop": 10}})", "pipeline.crop");
  refuses(R"({"pipeline": {"photometric": 1}})", "pipeline.photometric");
  refuses(R"({"data": {"label_map": {"x": 1}}})", "data.label_map");
  refuses(R"({"data": {"label_map": {"256": 1}}})", "data.label_map");
  refuses(R"({"data": {"label_map": {"other": "ignore"}}})", "data.label_map");  // without a table it would say nothing
  refuses(R"({"data": {"palette": [[1, 2]]}})", "data.palette");
  refuses(R"({"data": {"classes": ["a", 1]}})", "data.classes[1]");
  refuses(R"({"data": {"list": {"train": 1}}})", "data.list");
}

TEST_CASE("text that is no JSON is refused with its place", "[config]") {
  CHECK_THROWS_WITH(parse("{\"seed\": 1,\n \"train\" 5}"), Contains("run.json") && Contains("line 2"));
  CHECK_THROWS_AS(parse(""), DataError);
  CHECK_THROWS_AS(load_config("/nonexistent/run.json"), IoError);
}

TEST_CASE("settings change keys before they are read", "[config]") {
  const std::string text =
      R"({"train": {"iterations": 10}, "model": {"auxiliary_head": null}, "optimizer": {"groups": [{"pattern": "norm"}]}})";
  const Config config =
      parse(text, {"train.iterations=20", "data.root=../a=b/c", "pipeline.crop=[32, 64]", "model.auxiliary_head.channels=9",
                   "optimizer.groups.0.decay_mult=0.5", "evaluate.mode=slide", "schedule.min_lr=1e-3", "seed=4"});
  CHECK(config.train.iterations == 20);
  CHECK(config.data.root == "../a=b/c");
  CHECK((*config.pipeline.crop)[1] == 64);
  CHECK(config.model.auxiliary_head.channels == 9);
  CHECK(config.optimizer.groups[0].decay_mult == 0.5);
  CHECK(config.evaluate.mode == "slide");
  CHECK(config.schedule.min_lr == 1e-3);
  CHECK(config.seed == 4);
  CHECK_FALSE(parse(R"({"pipeline": {"crop": [5, 5]}})", {"pipeline.crop=null"}).pipeline.crop.has_value());
  for (const char* bad : {"train.iterations", "=5", "train..iterations=5", "seed.x=1", "optimizer.groups.1.lr_mult=2",
                          "optimizer.groups.a=2", "pipeline.crop=[1,", "train.iterations=many"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse(text, {bad}), UsageError);
  }
}

TEST_CASE("what is wrong with a setting is said of the setting, what is wrong with the file of the file", "[config]") {
  const std::string text = R"({"train": {"iterations": 10}, "optimizer": {"groups": [{"pattern": "norm"}]}})";
  const auto where = [](const std::string& file, const std::vector<std::string>& settings) -> std::string {
    try {
      parse(file, settings);
    } catch (const UsageError& error) {
      return error.where();
    }
    return "";
  };
  for (const std::string bad : {"train.iterations=many", "train.iteratoins=5", "optimzer.lr=1", "optimizer.groups.0.lr_mult=-1",
                                "evaluate.mode=x", "pipeline.crop=[1, 2, 3]"}) {
    CHECK(where(text, {"seed=1", bad, "train.batch_size=2"}) == "--set " + bad);
  }
  CHECK(where(text, {"train.iterations=5", "train.iterations=0"}) == "--set train.iterations=0");
  CHECK(where(R"({"train": {"iterations": 0}})", {"train.batch_size=2"}) == "run.json: train.iterations");
  CHECK(where(R"({"train": {"iteratoins": 1}})", {"train.iterations=2"}) == "run.json: train.iteratoins");
  CHECK(where("[]", {}) == "run.json: the whole file");
}

TEST_CASE("the differences of two configurations are named", "[config]") {
  const Config a = parse("{}"),
               b = parse("{}", {"train.batch_size=3", "model.auxiliary_head.channels=4", "optimizer.groups=[{\"pattern\": \"norm\"}]"});
  const auto differences = config_differences(a, b);
  const auto has = [&](const char* key) { return std::find(differences.begin(), differences.end(), key) != differences.end(); };
  CHECK(has("train.batch_size"));
  CHECK(has("optimizer.groups"));
  CHECK(has("model.auxiliary_head.channels"));
  CHECK_FALSE(has("seed"));
}

TEST_CASE("differences that a run may have are left out", "[config]") {
  const Config a = parse("{}"), b = parse("{}", {"seed=3", "data.root=elsewhere", "probes.every=7", "model.auxiliary_head=null"}),
               c = parse("{}", {"model.auxiliary_head.channels=4"});
  const char* const free[] = {"data.root", "probes.", "see"};
  CHECK(differences_but_for(free, a, a).empty());
  // A section that is off in one of them is one difference; "see" is neither a key nor a section.
  CHECK(differences_but_for(free, c, b) == std::vector<std::string>{"seed", "model.auxiliary_head"});
  CHECK(differences_but_for(free, b, c) == std::vector<std::string>{"seed", "model.auxiliary_head"});
}

TEST_CASE("texts that are not UTF-8, or that could steer a terminal, are refused where they would be written", "[config]") {
  // A path need not be UTF-8; the keys below are read by rules of their own.
  CHECK(parse_config("{}", "x", {"data.root=\xff"}).data.root == "\xff");
  for (const char* key : {"data.palette", "data.list", "data.checks"}) {
    INFO(key);
    CHECK_THROWS_AS(parse_config("{}", "x", {std::string(key) + "=\xff"}), UsageError);
  }
  CHECK(parse_config("{}", "x", {"data.label_map=\xff"}).data.label_map.preset == "\xef\xbf\xbd");  // which there is not
  CHECK_THROWS_WITH(parse_config(R"({"data": {"classes": ["a", "\u001b[2J"]}})", "x"),
                    Contains("control characters") && Contains("data.classes"));
  CHECK_THROWS_WITH(parse_config(R"({"model": {"backbone": {"pretrained": "weights\u0000.pth"}}})", "x"), Contains("NUL"));
}

TEST_CASE("two classes of one name are refused", "[config]") {
  CHECK_THROWS_WITH(parse_config(R"({"data": {"classes": ["a", "b", "a"]}})", "test"),
                    Catch::Contains("\"a\"") && Catch::Contains("give each class a name of its own"));
}

TEST_CASE("the recipes that come with the project can be read", "[config]") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(EQ_SOURCE_DIR) / "recipes")) {
    if (entry.path().extension() != ".json") continue;
    CAPTURE(entry.path().string());
    CHECK_NOTHROW(load_config(entry.path()));
    ++count;
  }
  CHECK(count >= 10);
}

TEST_CASE("the pictures' suffix is one, or several", "[config]") {
  for (const std::string value : {R"(".png")", R"([".jpg",".png"])"}) {
    const Config config = parse(R"({"data": {"folders": {"image_suffix": )" + value + "}}}");
    CHECK(config.data.image_suffix.back() == ".png");
    CHECK(to_json_text(parse(to_json_text(config))) == to_json_text(config));
  }
  for (const char* value : {"1", "[]", R"([".jpg", 1])"}) {
    CHECK_THROWS_WITH(parse(R"({"data": {"folders": {"image_suffix": )" + std::string(value) + "}}}"),
                      Catch::Contains("data.folders.image_suffix must be a suffix"));
  }
}

TEST_CASE("a group of parameters without a pattern is refused for that", "[config]") {
  CHECK_THROWS_WITH(parse(R"({"optimizer": {"groups": [{"lr_mult": 2}]}})"),
                    Catch::Contains("the pattern is missing") && Catch::Contains("optimizer.groups[0]"));
}

TEST_CASE("what other labels become, and the checks, are read and written as they are", "[config]") {
  const auto data = [](const std::string& text) { return parse_config("{\"data\": " + text + "}", "test").data; };
  const Config config = parse_config(R"({"data": {"label_map": {"3": 1, "other": 0}, "checks": "files"}})", "test");
  CHECK(config.data.label_map.other == "0");
  CHECK(config.data.checks == DataChecks::kFiles);
  const Config again = parse_config(to_json_text(config), "test");
  CHECK(again.data.label_map.other == "0");
  CHECK(again.data.checks == DataChecks::kFiles);
  CHECK(data(R"({"checks": false})").checks == DataChecks::kNone);
  CHECK(data(R"({"checks": true})").checks == DataChecks::kAll);
  CHECK_THROWS_WITH(data(R"({"checks": "warn"})"), Contains("true, \"files\" or false"));
  CHECK_THROWS_WITH(data(R"({"label_map": {"3": 1, "other": 300}})"), Contains("or a class under \"other\""));
}

TEST_CASE("a configuration made in a program is held to the ranges of one in a file", "[config]") {
  check_config(Config{});
  const auto changed = [](void (*change)(Config&)) {
    Config config;
    change(config);
    return config;
  };
  const std::pair<void (*)(Config&), const char*> wrong[] = {
      {[](Config& c) { c.train.reduction = "mean"; }, "train.reduction"},
      {[](Config& c) { c.train.precision = "fp16"; }, "train.precision"},
      {[](Config& c) { c.train.accumulate = 0; }, "train.accumulate must be a whole number, 1 to 65536, not 0"},
      {[](Config& c) { c.train.clip_norm = -1; }, "train.clip_norm"},
      {[](Config& c) { c.optimizer.lr = std::nan(""); }, "optimizer.lr must be a number, 0 or more, not nan"},
      {[](Config& c) { c.optimizer.groups = {{.pattern = "norm", .lr_mult = -1}}; }, "optimizer.groups[0].lr_mult"},
      {[](Config& c) { c.pipeline.crop = {0, 64}; }, "pipeline.crop[0]"},
      {[](Config& c) { c.data.label_map = {.entries = {{1, 0}}, .other = ""}; }, "data.label_map"},
  };
  for (const auto& [change, key] : wrong) {
    CAPTURE(key);
    CHECK_THROWS_WITH(check_config(changed(change)), Contains(key) && Contains("made in a program") && !Contains("--set"));
  }
}

TEST_CASE("a configuration is written with the values that it was read with", "[config]") {
  const auto given = nlohmann::json::parse(R"({
    "data": {"type": "folders", "classes": ["a", "b"], "palette": [[1, 2, 3], [4, 5, 255]],
             "label_map": {"7": 0, "8": "ignore", "9": 3, "other": "keep"}, "list": {"train": "t.txt"},
             "folders": {"train": {"images": "i", "labels": "l"}, "image_suffix": [".png", ".jpg"], "label_suffix": "_l.png"}},
    "pipeline": {"resize": {"scale": [480, 360], "ratio_range": [0.75, 1.75]}, "crop": [256, 128], "test_scale": [640, 480]},
    "model": {"decode_head": {"in_index": [0, 3], "c1_level": 2},
              "auxiliary_head": {"type": "psp", "channels": 16, "in_index": [1], "num_convs": 3, "pool_scales": [1, 4]}},
    "train": {"class_weights": [1, 0.5], "freeze": ["backbone"], "ohem": {"threshold": 0.9, "min_kept": 7}},
    "optimizer": {"betas": [0.8, 0.95], "groups": [{"pattern": "norm", "lr_mult": 3, "decay_mult": 0.5}]},
    "evaluate": {"crop": [64, 96], "stride": [32, 48], "scales": [0.5, 1.25]}
  })");
  const auto written = nlohmann::json::parse(to_json_text(parse(given.dump())));
  auto patched = written;
  patched.merge_patch(given);
  CHECK(patched == written);
}

TEST_CASE("the ends of a range are in it, what is beyond them is not", "[config]") {
  const auto refuses = [](const std::string& section, const std::string& words) {
    CAPTURE(section);
    CHECK_THROWS_AS(parse(section), UsageError);
    CHECK_THROWS_WITH(parse(section), Contains(words));
  };
  CHECK(parse(R"({"train": {"batch_size": 65536}})").train.batch_size == 65536);
  CHECK(parse(R"({"train": {"batch_size": 1}})").train.batch_size == 1);
  refuses(R"({"train": {"batch_size": 65537}})", "train.batch_size must be a whole number, 1 to 65536");
  const std::string many = nlohmann::json(std::vector<double>(65537, 1)).dump();
  refuses(R"({"train": {"class_weights": )" + many + "}}", "a list of numbers");
  const auto colours = [](size_t n) { return nlohmann::json(std::vector<std::vector<int>>(n, {1, 2, 3})).dump(); };
  CHECK(parse(R"({"data": {"palette": )" + colours(256) + "}}").data.palette.size() == 256);
  refuses(R"({"data": {"palette": )" + colours(257) + "}}", "at most 256 colours");
  refuses(R"({"data": {"palette": [[1, 2, 256]]}})", "of 0 to 255");
  refuses(R"({"data": {"palette": [[1, 2, 3, 4]]}})", "of 0 to 255");
  refuses(R"({"data": {"label_map": {"7": 256}}})", "values 0 to 255");
  refuses(R"({"data": {"label_map": {"0007": 1}}})", "values 0 to 255");
  refuses(R"({"data": {"label_map": {"7": 1, "other": 255}}})", "or a class under");
  CHECK(parse(R"({"data": {"label_map": {"255": 255, "other": 254}}})").data.label_map.entries.at(255) == 255);
}

TEST_CASE("a setting that is no value, or no place of a list, is refused for that", "[config]") {
  const std::string text = R"({"optimizer": {"groups": [{"pattern": "norm"}]}})";
  for (const std::string value : {"[1", "{", "\"a"}) {
    CHECK_THROWS_WITH(parse(text, {"data.root=" + value}), Contains("the value is not JSON"));
  }
  for (const std::string index : {"1", "99999999999999999999", "a"}) {
    CHECK_THROWS_WITH(parse(text, {"optimizer.groups." + index + ".lr_mult=2"}), Contains("is not an index of the list, which has 1"));
  }
  const auto caught = [&](const std::string& setting) {
    try {
      parse(text, {setting});
    } catch (const UsageError& error) {
      return error;
    }
    throw std::logic_error(setting + " passed");
  };
  const std::string list = "optimizer.groups=[{\"pattern\": \"a\", \"lr_mult\": -1}]";
  CHECK(caught(list).where() == "--set " + list);
  CHECK_THAT(caught(list).try_this(), Contains("--set optimizer.groups=[...], the whole list"));
  CHECK(caught("5=1").where() == "--set 5=1");
}

TEST_CASE("a configuration made in a program may hold lists, and numbers must be finite", "[config]") {
  Config config = parse(R"({"data": {"classes": ["a", "b"]}, "train": {"freeze": ["backbone"]}, "evaluate": {"scales": [0.5, 1]}})");
  CHECK_NOTHROW(check_config(config));
  config.optimizer.lr = HUGE_VAL;
  CHECK_THROWS_WITH(check_config(config), Contains("optimizer.lr must be a number, 0 or more, not inf"));
  config.optimizer.lr = 1;
  config.data.label_map.other = "ignore";  // of no entries
  CHECK_THROWS_WITH(check_config(config), Contains("data.label_map"));
}

TEST_CASE("a network on the CPU gets its pictures from one thread, or from as many as it is told", "[config]") {
  Config config;
  config.seed = 7;
  config.train.batch_size = 3;
  const LoaderOptions chosen = loader_options(config);
  CHECK(chosen.threads == 1);
  CHECK(chosen.batch_size == 3);
  CHECK(chosen.seed == 7);
  config.train.loader_threads = 5;
  CHECK(loader_options(config).threads == 5);
}

TEST_CASE("whole numbers are within 64 bits, and keys of settings have names", "[config]") {
  for (const char* seed : {"18446744073709551615", "9223372036854775808", "1e300", "1e16", "-1e300", "1.5"}) {
    CAPTURE(seed);
    CHECK_THROWS_WITH(parse("{}", {"seed=" + std::string(seed)}), Contains("seed must be a whole number"));
  }
  CHECK(parse("{}", {"seed=9223372036854775807"}).seed == std::numeric_limits<int64_t>::max());
  CHECK(parse("{}", {"seed=1e3"}).seed == 1000);
  CHECK_THROWS_WITH(parse("{}", {"=5"}), Contains("a setting has the form key=value"));
  for (const std::string key : {"train..iterations", ".seed", "seed."}) {
    CHECK_THROWS_WITH(parse("{}", {key + "=5"}), Contains("\"" + key + "\" is not a key"));
  }
  std::string deep = "a";
  for (int i = 0; i < limits::kJsonDepth; ++i) deep += ".a";
  CHECK_THROWS_WITH(parse("{}", {deep + "=5"}), Contains("is not a key"));
  CHECK_THROWS_WITH(parse("{}", {"data.root=" + std::string(limits::kJsonBytes + 1, 'a')}), Contains("the value is too long"));
}
