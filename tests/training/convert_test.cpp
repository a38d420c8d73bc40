// Networks from elsewhere: the same weights, from files that know nothing of us.
#include "training/convert.h"

#include "core/errors.h"
#include "core/safetensors.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;

namespace {

using State = std::map<std::string, Tensor>;

struct Trained {
  explicit Trained(const std::vector<std::string>& settings = {"equalizer.mode=off"}) : config(tiny_config(settings)) {
    TrainRequest request{.out = folder.path() / "run"};
    request.log = nullptr;
    train(config, request);
    state = read_safetensors(folder.path() / "run" / "model.safetensors").tensors;
  }
  // As other programs write it: no description, perhaps a wrapper's prefix.
  std::filesystem::path foreign(const State& tensors, const std::string& prefix = "") const {
    State renamed;
    for (const auto& [name, tensor] : tensors) renamed[prefix + name] = tensor;
    write_safetensors(folder.path() / "foreign.safetensors", renamed);
    return folder.path() / "foreign.safetensors";
  }
  TemporaryFolder folder;
  Config config;
  State state;
};

}  // namespace

TEST_CASE("a converted network is the one that was trained", "[convert]") {
  Trained run;
  CHECK_THROWS_WITH(load_trained_model(run.foreign(run.state)), Catch::Contains("equiscale convert"));
  State state = run.state;
  std::erase_if(state, [](const auto& entry) { return entry.first.ends_with("num_batches_tracked"); });
  state["backbone.layer1.0.attn_mask"] = Tensor::zeros({2});
  const ConvertedModel converted =
      convert_weights(run.config, run.foreign(state, GENERATE(std::string("module."), std::string("_orig_mod.module."))));
  CHECK(converted.left_out == "backbone.layer1.0.attn_mask");
  const State ours = converted.trained.model->state_dict();
  for (const auto& [name, tensor] : ours) {
    INFO(name);
    if (!name.ends_with("num_batches_tracked")) CHECK(bit_equal(tensor, run.state.at(name)));
  }
  // Written and read again, it predicts what the run predicts.
  const auto file = run.folder.path() / "converted.safetensors";
  save_weights(file, *converted.trained.model, converted.trained.card);
  TrainedModel again = load_trained_model(file), before = load_trained_model(run.folder.path() / "run");
  CHECK(again.card.class_names == before.card.class_names);
  CHECK(again.card.palette == before.card.palette);
  const Image picture = make_dataset(run.config.data, "val")->load(0).image;
  CHECK(predict_labels(again, picture).labels == predict_labels(before, picture).labels);
}

TEST_CASE("an auxiliary head that is not asked for is left out", "[convert]") {
  Trained run;
  Config config = run.config;
  config.model.auxiliary_head.type.clear();
  const ConvertedModel converted = convert_weights(config, run.foreign(run.state));
  CHECK_THAT(converted.left_out, Catch::StartsWith("auxiliary_head.conv_seg.bias, ") && Catch::Contains("in all)"));
  CHECK(converted.trained.model->state_dict().count("decode_head.conv_seg.weight") == 1);
}

TEST_CASE("classes may be named instead of looked up in the data", "[convert]") {
  Trained run;
  Config config = run.config;
  config.data = {.type = "folders", .root = "nowhere", .classes = {"a", "b", "c", "d", "e", "f", "g", "h"}};
  const ConvertedModel converted = convert_weights(config, run.foreign(run.state));
  CHECK(converted.trained.card.class_names[7] == "h");
  CHECK(converted.trained.card.palette.size() >= 8);
  config.data.palette.resize(3);
  CHECK_THROWS_WITH(convert_weights(config, run.foreign(run.state)), Catch::Contains("3 colours for 8 classes"));
}

TEST_CASE("weights that do not fit are refused, and the message says what to do", "[convert]") {
  Trained run;
  const auto conversion = [&](const State& state) { return [&, file = run.foreign(state)] { convert_weights(run.config, file); }; };
  State other = run.state;
  other.erase("decode_head.conv_seg.bias");
  CHECK_THROWS_WITH(conversion(other)(), Catch::Contains("missing") && Catch::Contains("decode_head.conv_seg.bias"));
  other = run.state;
  other["decode_head.extra.weight"] = Tensor::zeros({2});
  CHECK_THROWS_WITH(conversion(other)(), Catch::Contains("unexpected") && Catch::Contains("decode_head.extra.weight"));
  other = run.state;
  other["decode_head.conv_seg.bias"] = Tensor::zeros({19});
  CHECK_THROWS_WITH(conversion(other)(), Catch::Contains("19 classes"));
  other = run.state;
  other["decode_head.conv_seg.bias"] = other["decode_head.conv_seg.bias"].clone().mul_(1e38).mul_(1e38);
  CHECK_THROWS_WITH(conversion(other)(), Catch::Contains("NaN or infinity"));
  Config equalized = run.config;
  equalized.model.equalizer.mode = "explicit";
  CHECK_THROWS_WITH(convert_weights(equalized, run.foreign(run.state)), Catch::Contains("equalizer.mode=off"));
  CHECK_THROWS_AS(convert_weights(run.config, run.folder.path() / "none.pth"), IoError);
}

TEST_CASE("a network of ours with equalizers can be converted, too", "[convert]") {
  Trained run({"equalizer.mode=explicit"});
  const ConvertedModel converted = convert_weights(run.config, run.foreign(run.state));
  CHECK(bit_equal(converted.trained.model->state_dict().at("decode_head.fpn_fusion.equalizers.1.std"),
                  run.state.at("decode_head.fpn_fusion.equalizers.1.std")));
}
