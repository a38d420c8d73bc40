#include "training/checkpoint.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/allocator.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/parallel.h"
#include "support.h"
#include "autograd/node.h"
#include "training/ema.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

Checkpoint example(int64_t iteration, uint64_t seed) {
  Checkpoint checkpoint;
  checkpoint.card = {.config = R"({"seed": 1})", .class_names = {"sky", "road"}, .palette = {{1, 2, 3}, {4, 5, 6}}, .iteration = iteration};
  checkpoint.seconds = 12.5;
  checkpoint.times = {.steps = 3, .seconds = 2.5, .wait = 0.5};
  checkpoint.data = {{"train", {.pictures = 7, .names = "abc"}}};
  checkpoint.model = {{"a.weight", random_tensor({3, 4}, seed, DType::kFloat32)}, {"a.count", Tensor::from<int64_t>({iteration}, {})}};
  checkpoint.optimizer = {{"momentum.a.weight", random_tensor({3, 4}, seed + 100, DType::kFloat32)}};
  return checkpoint;
}

void check_equal(const Checkpoint& a, const Checkpoint& b) {
  CHECK(a.card.iteration == b.card.iteration);
  for (const auto& [x, y] : {std::pair(&a.model, &b.model), std::pair(&a.optimizer, &b.optimizer), std::pair(&a.ema, &b.ema)}) {
    REQUIRE(x->size() == y->size());
    for (const auto& [name, tensor] : *x) CHECK(bit_equal(tensor, y->at(name)));
  }
}

int64_t files_in(const fs::path& folder) { return std::distance(fs::directory_iterator(folder), fs::directory_iterator()); }

struct Failure {  // makes the n-th file operation fail
  explicit Failure(int at) {
    set_file_failure_hook([this, at](const char*, const fs::path&) { return ++seen == at ? ENOSPC : 0; });
  }
  ~Failure() { set_file_failure_hook({}); }
  int seen = 0;
};

class Head : public Module {
 public:
  explicit Head(int64_t classes) {
    weight = register_parameter("conv_seg.weight", Tensor::full({classes, 2}, 1));
    count = register_buffer("count", Tensor::from<int64_t>({3}, {}));
  }
  Tensor weight, count;
};

}  // namespace

TEST_CASE("a checkpoint comes back bit for bit, and the new one replaces the old", "[checkpoint]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "run" / "checkpoint";
  CHECK_FALSE(has_checkpoint(path));
  CHECK_FALSE(has_checkpoint(path / "none"));
  CHECK_THROWS_AS(load_checkpoint(path), IoError);
  CHECK_THROWS_AS(load_checkpoint(path / std::string(300, 'x')), IoError);  // no name of a folder: the system refuses to look
  save_checkpoint(path, example(5, 1));
  CHECK(has_checkpoint(path));
  const Checkpoint loaded = load_checkpoint(path);
  check_equal(loaded, example(5, 1));
  CHECK(loaded.card.class_names == std::vector<std::string>{"sky", "road"});
  CHECK(loaded.card.palette[1][2] == 6);
  CHECK(loaded.seconds == 12.5);
  CHECK(loaded.times.steps == 3);
  CHECK(loaded.times.wait == 0.5);
  CHECK(loaded.data.at("train").pictures == 7);
  CHECK(loaded.data.at("train").names == "abc");
  CHECK(nlohmann::json::parse(loaded.card.config)["seed"] == 1);
  CHECK_FALSE(loaded.card.library_version.empty());

  Checkpoint next = example(10, 2);
  next.ema = {{"a.weight", random_tensor({3, 4}, 9, DType::kFloat32)}};
  save_checkpoint(path, next);
  check_equal(load_checkpoint(path), next);
  CHECK(files_in(path) == 4);
}

TEST_CASE("a failure at any file operation leaves the last good checkpoint", "[checkpoint]") {
  int operations = 0;
  {
    TemporaryFolder folder;
    Failure count(-1);
    save_checkpoint(folder.path(), example(5, 1));
    operations = count.seen;
  }
  CHECK(operations >= 6);
  for (int at = 1; at <= operations; ++at) {
    // Another iteration, and the same iteration with other values (a run started anew over an old folder).
    for (int64_t iteration : {10, 5}) {
      TemporaryFolder folder;
      save_checkpoint(folder.path(), example(5, 1));
      const std::string manifest = read_file(folder.path() / "manifest.json");
      {
        Failure failure(at);
        CHECK_THROWS_AS(save_checkpoint(folder.path(), example(iteration, 2)), IoError);
      }
      const Checkpoint after = load_checkpoint(folder.path());
      // Past the renaming of the manifest the new one may count.
      const bool is_new = bit_equal(after.model.at("a.weight"), example(iteration, 2).model.at("a.weight"));
      check_equal(after, is_new ? example(iteration, 2) : example(5, 1));
      CHECK(files_in(folder.path()) == (is_new ? 5 : 3));
      if (is_new) {  // the folder was not synced: a power cut may bring the old manifest back
        const std::string renamed = read_file(folder.path() / "manifest.json");
        write_file(folder.path() / "manifest.json", manifest);
        check_equal(load_checkpoint(folder.path()), example(5, 1));
        write_file(folder.path() / "manifest.json", renamed);
      }
      save_checkpoint(folder.path(), example(15, 3));
      check_equal(load_checkpoint(folder.path()), example(15, 3));
      CHECK(files_in(folder.path()) == 3);
    }
  }
}

TEST_CASE("what an interrupted write left behind goes away, other files stay", "[checkpoint]") {
  TemporaryFolder folder;
  save_checkpoint(folder.path(), example(5, 1));
  write_file(folder.path() / ".model-00000010-0.safetensors.1.0.tmp", "half");
  write_file(folder.path() / "model-00000010-0123456789abcdef.safetensors", "orphan");
  write_file(folder.path() / "notes.txt", "mine");
  write_file(folder.path() / ".hidden", "mine, too");
  save_checkpoint(folder.path(), example(10, 1));
  CHECK(files_in(folder.path()) == 5);
  CHECK(fs::exists(folder.path() / ".hidden"));
  CHECK(fs::exists(folder.path() / "notes.txt"));
}

TEST_CASE("damage is found and named", "[checkpoint]") {
  TemporaryFolder folder;
  save_checkpoint(folder.path(), example(5, 1));
  fs::path model;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (entry.path().filename().string().starts_with("model-")) model = entry.path();
  }
  const fs::path manifest = folder.path() / "manifest.json";
  const std::string good = read_file(model), text = read_file(manifest);
  SECTION("one bit of one value") {
    std::string bytes = good;
    bytes[bytes.size() - 1] ^= 1;
    write_file(model, bytes);
    CHECK_THROWS_WITH(load_checkpoint(folder.path()), Contains("a.weight") && Contains("checksum") && Contains(model.filename().string()));
  }
  SECTION("a truncated file") {
    write_file(model, good.substr(0, good.size() / 2));
    CHECK_THROWS_AS(load_checkpoint(folder.path()), DataError);
  }
  SECTION("a missing file") {
    fs::remove(model);
    CHECK_THROWS_AS(load_checkpoint(folder.path()), IoError);
  }
  SECTION("manifests with faults") {
    const auto json = nlohmann::json::parse(text);
    std::vector<nlohmann::json> bad(15, json);
    bad[0]["format_version"] = 99;
    bad[1].erase("class_names");
    bad[2]["iteration"] = "five";
    bad[3]["files"]["model"]["file"] = "../../etc/passwd.safetensors";
    bad[4]["files"]["model"]["sha256"].erase("a.weight");
    bad[5]["files"]["model"]["sha256"]["b"] = "00";
    bad[6]["files"] = 3;
    bad[7]["format"] = "something else";
    bad[8]["palette"] = nlohmann::json::array();
    bad[9]["palette"][0] = {300, 0, 0};
    bad[10]["palette"][0] = {1e300, 0, 0};
    bad[11]["iteration"] = 1e300;
    bad[12]["iteration"] = uint64_t{1} << 63;
    bad[13]["format_version"] = (int64_t{1} << 32) + 1;
    bad[14]["class_names"][0] = "\x1b[2J";
    for (const auto& value : bad) {
      CAPTURE(value.dump());
      write_file(manifest, value.dump());
      CHECK_THROWS_AS(load_checkpoint(folder.path()), DataError);
    }
    for (const std::string& value : {std::string("[]"), std::string("{"), std::string(), text.substr(0, text.size() / 2)}) {
      write_file(manifest, value);
      CHECK_THROWS_AS(load_checkpoint(folder.path()), DataError);
    }
  }
}

TEST_CASE("weights of another class count are refused with both counts and the tensor", "[checkpoint]") {
  Head eleven(11), eight(8);
  CHECK_THROWS_WITH(load_weights(eight, eleven.state_dict(), "old.safetensors"),
                    Contains("a model with 11 classes, this one has 8") && Contains("conv_seg.weight") && Contains("old.safetensors"));
  CHECK_THROWS_AS(load_weights(eight, {{"conv_seg.weight", Tensor::scalar(1)}, {"count", eight.count}}, ""), DataError);
  Head other(11);
  {
    NoGradGuard no_grad;
    other.weight.fill_(0);
  }
  load_weights(other, eleven.state_dict(), "");
  CHECK(bit_equal(other.weight, eleven.weight));
}

TEST_CASE("averaged weights follow their formula and change places with the model's", "[ema]") {
  Head model(2);
  Ema ema(model, 0.5);
  {
    NoGradGuard no_grad;
    model.weight.fill_(3);
    model.count.fill_(7);
  }
  ema.update(0);  // the decay is min(0.5, 1/10)
  ema.swap();
  CHECK(model.weight.value_at(0) == Approx(0.1 * 1 + 0.9 * 3));
  CHECK(model.count.value_at(0) == 7);
  ema.swap();
  CHECK(model.weight.value_at(0) == 3);
  ema.update(1000);  // now 0.5
  {
    EmaScope scope(&ema);
    CHECK(model.weight.value_at(3) == Approx(0.5 * 2.8 + 0.5 * 3));
    const TensorMap averaged = model.state_dict();
    CHECK(averaged.at("conv_seg.weight").value_at(0) == Approx(2.9));
  }
  CHECK(model.weight.value_at(3) == 3);
  // Without memory, too: a scope ends while an error of any kind passes.
  allocator().set_failure_hook([](size_t) { return true; });
  ema.swap();
  const float there = model.weight.data<float>()[3];
  ema.swap();
  allocator().set_failure_hook({});
  CHECK(there == Approx(2.9));
  CHECK(model.weight.value_at(3) == 3);
  ema.take_from_model();
  ema.swap();
  CHECK(model.weight.value_at(3) == 3);
  for (const double decay : {0.0, 1.0}) CHECK_THROWS_AS(Ema(model, decay), UsageError);
}

TEST_CASE("averaged weights of any size, the same bits for any number of threads", "[ema]") {
  struct Weights : Module {
    std::vector<Tensor> all = {register_parameter("large", random_tensor({100003}, 1, DType::kFloat32)),
                               register_parameter("double", random_tensor({5, 7}, 2, DType::kFloat64)),
                               register_parameter("none", random_tensor({0}, 3, DType::kFloat32)),
                               register_buffer("small", random_tensor({9}, 4, DType::kFloat32))};
  };
  const int before = num_threads();
  std::vector<Tensor> results[2];
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    Weights weights;
    NoGradGuard no_grad;
    std::vector<Tensor> expected;
    for (const Tensor& tensor : weights.all) expected.push_back(tensor.clone());
    Ema ema(weights, 0.9);
    for (int64_t step = 0; step < 3; ++step) {
      const double decay = (1.0 + double(step)) / (10.0 + double(step));
      for (size_t i = 0; i < expected.size(); ++i) {
        weights.all[i].copy_(random_tensor(expected[i].shape(), uint64_t(10 * step) + i, expected[i].dtype()));
        expected[i].mul_(decay).add_(weights.all[i], 1 - decay);
      }
      ema.update(step);
    }
    const EmaScope averaged(&ema);
    for (size_t i = 0; i < expected.size(); ++i) {
      check_close(weights.all[i], expected[i], expected[i].dtype() == DType::kFloat64 ? 1e-15 : 1e-6);
      results[threads - 1].push_back(weights.all[i].clone());
    }
  }
  set_num_threads(before);
  for (size_t i = 0; i < results[0].size(); ++i) CHECK(bit_equal(results[0][i], results[1][i]));
}

TEST_CASE("the sums since the last row of metrics come back in their places", "[checkpoint]") {
  TemporaryFolder folder;
  Checkpoint checkpoint = example(5, 1);
  checkpoint.interval = {.steps = 2, .loss = 3.5, .main_loss = 4.5, .aux_loss = 5.5, .seconds = 6.5, .wait = 7.5};
  save_checkpoint(folder.path(), checkpoint);
  const Checkpoint loaded = load_checkpoint(folder.path());
  CHECK(loaded.interval.steps == 2);
  CHECK(loaded.interval.loss == 3.5);
  CHECK(loaded.interval.main_loss == 4.5);
  CHECK(loaded.interval.aux_loss == 5.5);
  CHECK(loaded.interval.seconds == 6.5);
  CHECK(loaded.interval.wait == 7.5);
  CHECK(loaded.times.seconds == 2.5);
}

TEST_CASE("a card is written and read back whole, and refused where it is no card", "[checkpoint]") {
  ModelCard card = example(5, 1).card;
  CHECK_FALSE(read_card(write_card(card), "").miou.has_value());
  card.miou = 0.25;
  card.own_parts = {"loss", "data"};
  const ModelCard read = read_card(write_card(card), "");
  CHECK(read.miou == 0.25);
  CHECK(read.own_parts == card.own_parts);
  CHECK(read.iteration == 5);
  const auto refused = [&](const char* key, const nlohmann::json& value) {
    CAPTURE(key, value.dump().substr(0, 80));
    auto json = nlohmann::json::parse(write_card(card));
    json[key] = value;
    if (std::string(key) == "class_names") json["palette"] = std::vector<Color>(256);
    CHECK_THROWS_AS(read_card(json.dump(), "card.json"), DataError);
    CHECK_THROWS_WITH(read_card(json.dump(), "card.json"), Contains(key) && Contains("card.json"));
  };
  refused("iteration", -1);
  refused("config", "a text");
  refused("class_names", nlohmann::json::array());
  refused("class_names", std::vector<std::string>(257, "x"));
}

TEST_CASE("a manifest names plain files of ours, and holds sums and times of its forms", "[checkpoint]") {
  TemporaryFolder folder;
  save_checkpoint(folder.path(), example(5, 1));
  const fs::path manifest = folder.path() / "manifest.json";
  const auto good = nlohmann::json::parse(read_file(manifest));
  const auto refused = [&](const nlohmann::json& bad, const std::string& words) {
    write_file(manifest, bad.dump());
    CHECK_THROWS_WITH(load_checkpoint(folder.path()), Contains(words) && Contains("manifest.json"));
  };
  for (const std::string& name : {std::string("sub/model.safetensors"), std::string("Model.safetensors"), std::string("a..b.safetensors"),
                                  std::string("model-00000005.bin"), std::string(".safetensors"), std::string(250, 'm') + ".safetensors"}) {
    CAPTURE(name);
    auto bad = good;
    bad["files"]["model"]["file"] = name;
    refused(bad, "it names the file");
  }
  for (const char* key : {"interval", "step_times"}) {
    for (const std::vector<double>& values : std::vector<std::vector<double>>{
             {1, 2}, {1, 2, 3, 4, 5, 6, 7}, {-1, 0, 0}, {1e18, 0, 0, 0, 0, 0}, {1e18, 0, 0}, {-1, 0, 0, 0, 0, 0}}) {
      CAPTURE(values);
      auto bad = good;
      bad[key] = values;
      refused(bad, std::string("\"") + key + "\" has the wrong form");
    }
  }
}

TEST_CASE("a manifest that cannot be examined is no missing one: starting over would replace the run", "[checkpoint]") {
  const TemporaryFolder folder;
  fs::create_symlink("manifest.json", folder.path() / "manifest.json");  // to itself
  CHECK(has_checkpoint(folder.path()));
  CHECK_THROWS_AS(load_checkpoint(folder.path()), IoError);
}
