// Weights of PyTorch's own files: tests/golden/torch, of tools/make_torch_files.py.
#include "models/pretrained.h"

#include "core/safetensors.h"
#include "hashed_weights.h"
#include "models/backbones/resnet.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

TEST_CASE("PyTorch's files and safetensors give a backbone the same weights", "[models][torch]") {
  const BackboneOptions options{.depth = 18, .stem = "v1", .width = 2};
  const auto loaded = [&](const std::filesystem::path& file, const char* mode, const std::string& note) {
    ResNet net(options);
    CHECK(load_pretrained(net, file, mode) == note);
    return net.state_dict();
  };
  const TemporaryFolder folder;
  std::map<std::string, Tensor> state;
  for (const auto& [name, value] : ResNet(options).state_dict()) {
    state[name] = is_floating(value.dtype()) ? initial_value(name, value.shape()) : Tensor::full(value.shape(), 5, value.dtype());
  }
  write_safetensors(folder.path() / "a.safetensors", state);
  const auto expected = loaded(folder.path() / "a.safetensors", "strict", "loaded 120/120");

  // A training program's file has whole networks in it, torchvision's the classifier; names of files do not matter.
  std::filesystem::copy(EQ_GOLDEN_DIR "/torch/resnet18_zip.pth", folder.path() / "b.safetensors");
  const auto zip = loaded(folder.path() / "b.safetensors", "strict", "loaded 120/120");
  const auto legacy = loaded(EQ_GOLDEN_DIR "/torch/resnet18_legacy.pth", "backbone", "loaded 100/100; not used: fc.bias, fc.weight");
  for (const auto& [name, value] : expected) {
    INFO(name);
    CHECK(bit_equal(value, state.at(name)));
    CHECK(bit_equal(zip.at(name), value));
    if (!name.ends_with("num_batches_tracked")) CHECK(bit_equal(legacy.at(name), value));
  }
}

TEST_CASE("a file of PyTorch's that holds no weights is refused by name", "[models][torch]") {
  ResNet net({.depth = 18, .stem = "v1", .width = 2});
  const std::string file = EQ_GOLDEN_DIR "/torch/module_zip.pth";
  CHECK_THROWS_AS(load_pretrained(net, file, "backbone"), DataError);
  CHECK_THROWS_WITH(load_pretrained(net, file, "backbone"), Catch::Contains(file) && Catch::Contains("there is no state dict") &&
                                                                Catch::Contains("torch.save(model.state_dict(), NAME)"));
}
