#include "models/initial_weights.h"

#include "core/safetensors.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

ModelOptions small_network(int64_t classes, const std::string& equalizer = "off") {
  ModelOptions options;
  options.backbone = {.depth = 18, .width = 4};
  options.decode_head = {.type = "uper", .channels = 8};
  options.equalizer.mode = equalizer;
  options.num_classes = classes;
  return options;
}

EncoderDecoder network_of(const ModelOptions& options, uint64_t seed) {
  const InitRandom random{seed};
  return EncoderDecoder(options);
}

}  // namespace

TEST_CASE("a network begins with all of another one that fits", "[models]") {
  const TemporaryFolder folder;
  EncoderDecoder source = network_of(small_network(8), 1);
  const std::string file = (folder.path() / "model.safetensors").string();
  write_safetensors(file, source.state_dict());
  // Of a folder its model.safetensors.
  for (const std::string& from : {file, folder.path().string()}) {
    ModelOptions options = small_network(8);
    options.init_from = from;
    EncoderDecoder same = network_of(options, 2);
    for (const auto& [name, value] : source.state_dict()) CHECK(bit_equal(same.state_dict().at(name), value));
    CHECK_THAT(same.pretrained_note(), Contains(from + ": took ") && !Contains("left"));
  }
  // Other classes: the classifier keeps what it was given.
  ModelOptions options = small_network(5);
  EncoderDecoder untouched = network_of(options, 2);
  options.init_from = file;
  EncoderDecoder other = network_of(options, 2);
  const auto before = untouched.state_dict(), after = other.state_dict(), theirs = source.state_dict();
  for (const auto& [name, value] : after) {
    INFO(name);
    CHECK(bit_equal(value, name.find("conv_seg") != std::string::npos ? before.at(name) : theirs.at(name)));
  }
  CHECK_THAT(other.pretrained_note(),
             Contains("of another form, left at their initial values: decode_head.conv_seg.bias ([5]; the file has "
                      "[8]), decode_head.conv_seg.weight"));
}

TEST_CASE("weights of another network, and two files at once, are refused", "[models]") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "a.safetensors").string();
  write_safetensors(file, network_of(small_network(8), 1).state_dict());
  ModelOptions wide = small_network(8);
  wide.backbone.width = 8;
  wide.decode_head.channels = 16;
  wide.init_from = file;
  CHECK_THROWS_AS(EncoderDecoder(wide), DataError);
  CHECK_THROWS_WITH(EncoderDecoder(wide), Contains("of another network") && Contains(file));
  ModelOptions both = small_network(8);
  both.init_from = both.backbone.pretrained = file;
  CHECK_THROWS_WITH(EncoderDecoder(both), Contains("both model.init_from and model.backbone.pretrained"));
  both = small_network(8);
  both.init_from = (folder.path() / "none").string();
  CHECK_THROWS_WITH(EncoderDecoder(both), Contains("do not exist"));
  both.init_from = EQ_GOLDEN_DIR;  // a folder without a run
  CHECK_THROWS_WITH(EncoderDecoder(both), Contains("model.safetensors"));
}

TEST_CASE("equalizers come with the weights or not at all", "[models]") {
  const TemporaryFolder folder;
  for (const char* mode : {"off", "explicit"}) {
    EncoderDecoder source = network_of(small_network(8, mode), 1);
    for (FusionSite* site : modules_of<FusionSite>(source)) {
      if (mode == std::string("off")) break;
      site->set_constants(std::vector<BranchConstants>(site->branches().size(), {{0.5}, {2}}));
    }
    const std::string file = (folder.path() / (std::string(mode) + ".safetensors")).string();
    write_safetensors(file, source.state_dict());
    ModelOptions options = small_network(8, "explicit");
    options.init_from = file;
    EncoderDecoder network = network_of(options, 2);
    CHECK(network.has_constants() == (mode == std::string("explicit")));
    for (const FusionSite* site : modules_of<FusionSite>(network)) {
      for (const BranchConstants& constants : site->constants()) CHECK(constants.std[0] == (network.has_constants() ? 2 : 1));
    }
  }
}
