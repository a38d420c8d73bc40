#include <nlohmann/json.hpp>

#include "core/json.h"
#include "core/safetensors.h"
#include "fuzz/mutate.h"

using namespace eq;
using namespace eq::test;

namespace {

std::vector<std::string> safetensors_seeds() {
  TemporaryFolder folder;
  const auto path = folder.path() / "a";
  std::vector<std::string> seeds;
  write_safetensors(path,
                    {{"w", random_tensor({2, 3}, 1, DType::kFloat32)}, {"b", Tensor::from<uint8_t>({1, 2, 3}, {3})}},
                    {{"format", "pt"}});
  seeds.push_back(read_file(path));
  write_safetensors(path, {{"a", Tensor::from<bool>({true, false}, {2})},
                           {"e", Tensor::empty({0, 4})},
                           {"s", Tensor::scalar(1)},
                           {"n", Tensor::from<int64_t>({1}, {1})}});
  seeds.push_back(read_file(path));
  const std::string half =
      R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"g":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}})";
  seeds.push_back(std::string(1, char(half.size())) + std::string(7, '\0') + half + "abcdef");
  return seeds;
}

// The header length that the header's closing brace says.
void repair_length(std::string& bytes) {
  const size_t end = bytes.rfind('}');
  if (end == std::string::npos || end < 8) return;
  for (int i = 0; i < 8; ++i) bytes[size_t(i)] = char((end - 7) >> 8 * i);
}

}  // namespace

TEST_CASE("mutated safetensors files give a value or an error", "[fuzz][safetensors]") {
  fuzz(
      safetensors_seeds(), 6000, 2024,
      [](const std::string& input) {
        const WeightsFile file = parse_safetensors({reinterpret_cast<const uint8_t*>(input.data()), input.size()}, "fuzz");
        uint64_t bytes = 0;
        for (const auto& [name, tensor] : file.tensors) bytes += tensor.bytes();
        if (bytes > 2 * input.size()) throw std::runtime_error("more values than the file holds");
      },
      repair_length);
}

TEST_CASE("mutated JSON texts give a value or an error", "[fuzz][json]") {
  const std::vector<std::string> seeds = {
      R"({"model": {"name": "upernet", "channels": [64, 128], "dropout": 0.1}, "train": {"lr": 1e-2, "steps": 100, "amp": false}})",
      "// comment\n{\"a\": [null, true, \"\\u00e9\\n\", -1.5e3], /* b */ \"b\": {}}",
      "[[[[1]]], {\"x\": {\"y\": [\"\xc3\xa9\"]}}]"};
  for (bool comments : {true, false}) {
    const auto first = seeds.begin();
    const std::vector<std::string> used = comments ? seeds : std::vector<std::string>{first[0], first[2]};
    fuzz(used, 4000, 7, [&](const std::string& input) {
      const nlohmann::json value = parse_json(input, "fuzz", comments);
      // What was accepted is JSON: writing and reading it again changes nothing.
      if (nlohmann::json::parse(value.dump()) != value) throw std::runtime_error("not the same again");
    });
  }
}
