// What torch.save wrote: fixtures of tools/make_torch_files.py in tests/golden/torch, and each of their bytes lost or changed. Pickles
// written by hand are in pickle_test.cpp.
#include "core/torch_file.h"

#include <zip.h>

#include "core/errors.h"
#include "core/limits.h"
#include "core/safetensors.h"
#include "fuzz/mutate.h"
#include "torch_bytes.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

std::string golden(const std::string& name) { return EQ_GOLDEN_DIR "/torch/" + name; }

// The tensors of expected.safetensors under `group`, of which `bool` is written as bytes.
std::map<std::string, Tensor> expected(const std::string& group) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, tensor] : read_safetensors(golden("expected.safetensors")).tensors) {
    if (name.starts_with(group + "/")) tensors[name.substr(group.size() + 1)] = name == "plain/bool" ? tensor.to(DType::kBool) : tensor;
  }
  REQUIRE(!tensors.empty());
  return tensors;
}

void check_same(const std::map<std::string, Tensor>& actual, const std::map<std::string, Tensor>& wanted) {
  CHECK(actual.size() == wanted.size());
  for (const auto& [name, tensor] : wanted) {
    INFO(name);
    REQUIRE(actual.count(name) == 1);
    CHECK(bit_equal(actual.at(name), tensor));
  }
}

uint64_t bytes_of(const WeightsFile& file) {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : file.tensors) bytes += tensor.bytes();
  return bytes;
}

// A zip archive of these entries, deflated ones with `deflated`.
std::string zip_of(const std::vector<std::pair<std::string, std::string>>& entries, bool deflated = false) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "a.zip";
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE, nullptr);
  REQUIRE(zip != nullptr);
  for (const auto& [name, bytes] : entries) {
    const zip_int64_t index = zip_file_add(zip, name.c_str(), zip_source_buffer(zip, bytes.data(), bytes.size(), 0), 0);
    REQUIRE(index >= 0);
    zip_set_file_compression(zip, zip_uint64_t(index), deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  REQUIRE(zip_close(zip) == 0);
  return read_file(path);
}

}  // namespace

TEST_CASE("torch.save's tensors are read from both containers and by every protocol", "[torch]") {
  const auto plain = expected("plain");
  for (const char* name : {"plain_zip", "plain_legacy", "plain_protocol5", "plain_legacy_protocol4", "plain_deflated"}) {
    INFO(name);
    const WeightsFile file = read_weights(golden(name + std::string(".pth")));
    check_same(file.tensors, plain);
    CHECK(file.metadata.empty());
  }
  CHECK(plain.at("bn.num_batches_tracked").item() == -1099511627776.0);
  CHECK(plain.at("empty").shape() == Shape{3, 0, 2});
}

TEST_CASE("views become contiguous tensors", "[torch]") {
  const auto strided = expected("strided");
  for (const char* name : {"strided_zip", "strided_legacy"}) check_same(read_weights(golden(name + std::string(".pth"))).tensors, strided);
  CHECK(strided.at("cut").to_vector<float>() == std::vector<float>{-3, -2, -1, 0, 1, 2});
}

TEST_CASE("a state dict is found among what training programs put beside it", "[torch]") {
  for (const char* name : {"nested_zip", "nested_legacy", "nested_protocol4"}) {
    INFO(name);
    const WeightsFile file = read_weights(golden(name + std::string(".pth")));
    check_same(file.tensors, expected("plain"));
    CHECK(file.metadata ==
          std::map<std::string, std::string>{{"taken from", "state_dict"}, {"left out", R"("meta", "optimizer", "epoch")"}});
  }
  const WeightsFile wrapped = read_weights(golden("wrapped_zip.pth"));
  CHECK(wrapped.metadata.at("taken from") == "model");
  CHECK(wrapped.tensors.count("module.conv.weight") == 1);
  const WeightsFile sparse = read_weights(golden("sparse_zip.pth"));
  CHECK(sparse.tensors.size() == 1);
  CHECK(sparse.metadata.at("left out") == R"("s")");
}

TEST_CASE("what the engine cannot take is refused by name", "[torch]") {
  const auto refused = [](const std::string& file, const std::string& reason) {
    const TemporaryFolder folder;
    INFO(reason);
    CHECK_THROWS_AS(read_weights(file), DataError);
    CHECK_THROWS_WITH(read_weights(file), Contains(file) && Contains(reason) && Contains("try:"));
  };
  refused(golden("float8_zip.pth"), "tensor \"w\": the element type float8_e4m3fn is not supported");
  refused(golden("int16_zip.pth"), "tensor \"w\": the element type int16 is not supported");
  refused(golden("module_zip.pth"), "the file holds an object made by \"torch.nn.modules.linear.Linear\"");

  const TemporaryFolder folder;
  const auto refused_bytes = [&](const std::string& bytes, const std::string& reason) {
    write_file(folder.path() / "weights", bytes);
    refused(folder.path() / "weights", reason);
  };
  refused_bytes(zip_of({{"word/document.xml", "text"}}), "it has no data.pkl");
  refused_bytes(zip_of({{"a/data.pkl", pickle_of(state_of({}))}}),
                "there is no state dict, a mapping of names to tensors: the file holds an empty mapping");
  refused_bytes(zip_of({{"a/data.pkl", pickle_of("}X\5\0\0\0epochK\1s")}, {"a/byteorder", "big"}}), "byte order \"big\"");
  refused_bytes(zip_of({{"a/data.pkl", pickle_of("}X\5\0\0\0epochK\1s"s)}}), "the file holds a mapping of \"epoch\"");
  refused_bytes(zip_of({{"a/data.pkl", pickle_of("(U\6modulecmy\nNet\ntQ)\x81"s)}}), "the file holds an object\n");
  refused_bytes(pickle_of("}"), "this is a pickle, but none that torch.save has written");
  refused_bytes("PK\3\4 and then nothing", "the zip archive cannot be opened");
  CHECK_THROWS_AS(read_weights(folder.path() / "missing.pth"), IoError);
}

TEST_CASE("safetensors with a short header are no pickle", "[torch]") {
  const TemporaryFolder folder;
  std::string header = R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  header.resize(0x0280, ' ');
  write_file(folder.path() / "a", std::string("\x80\2\0\0\0\0\0\0", 8) + header + '\7');
  CHECK(read_weights(folder.path() / "a").tensors.at("w").item() == 7);
}

TEST_CASE("a storage is as large as its tensors say, in the archive and in the allocation", "[torch]") {
  const auto file = [](const TensorBytes& tensor, const std::string& storage, bool deflated = false) {
    return zip_of({{"a/data.pkl", pickle_of(state_of({tensor}))}, {"a/data/0", storage}}, deflated);
  };
  const auto refused = [](const std::string& bytes, const std::string& reason) {
    INFO(reason);
    CHECK_THROWS_AS(read_torch(bytes), DataError);
    CHECK_THROWS_WITH(read_torch(bytes), Contains("weights.pth") && Contains(reason));
  };
  const std::string two(8, '\0');
  CHECK(read_torch(file({.elements = 2, .shape = {2}, .strides = {1}}, two)).tensors.at("w").shape() == Shape{2});
  refused(file({.elements = 3, .shape = {2}, .strides = {1}}, two), "tensor \"w\": its storage \"0\" has 8 bytes; 12 are named");
  refused(file({.key = "1", .elements = 2, .shape = {2}, .strides = {1}}, two), "its storage \"1\" is missing");
  refused(file({.elements = 2, .shape = {3}, .strides = {1}}, two), "its last element is number 2 of its storage, which has only 2");
  refused(file({.elements = 2, .offset = 1, .shape = {2}, .strides = {1}}, two), "its last element is number 2");
  refused(file({.elements = 2, .offset = int64_t(1) << 62, .shape = {2}, .strides = {1}}, two),
          "its last element is number 4611686018427387905");
  refused(file({.elements = 2, .shape = {2}, .strides = {-1}}, two), "a stride is negative: -1");
  refused(file({.elements = 2, .shape = {-2}, .strides = {1}}, two), "an extent is negative: -2");
  refused(file({.elements = 2, .offset = -1, .shape = {2}, .strides = {1}}, two), "its offset is negative");
  refused(file({.elements = -2, .shape = {2}, .strides = {1}}, two), "the size of its storage is negative");
  refused(file({.elements = int64_t(1) << 62, .shape = {2}, .strides = {1}}, two), "the size of its storage overflows");
  refused(file({.elements = 2, .shape = {2}, .strides = {1, 1}}, two), "it has 1 axes and 2 strides");
  refused(file({.elements = 2, .shape = {1, 1, 1, 1, 1, 1, 1, 1, 1}, .strides = {1, 1, 1, 1, 1, 1, 1, 1, 1}}, two), "more than 8 axes");
  const int64_t large = int64_t(1) << 40;
  refused(file({.elements = 2, .shape = {large, large}, .strides = {0, 0}}, two), "overflows");
  refused(file({.elements = 2, .shape = {0, large, large}, .strides = {1, 1, 1}}, two), "overflows");
  refused(file({.elements = 2, .shape = {large, 2}, .strides = {large, 1}}, two), "overflows");
  refused(file({.elements = 2, .shape = {large}, .strides = {0}}, two), "its tensors would need more than 16 times the");
  // Zeros deflate to a thousandth: 4 MB of them, named by a tensor of two elements.
  const std::string zeros(size_t{4} << 20, '\0');
  refused(file({.elements = int64_t{1} << 20, .shape = {2}, .strides = {1}}, zeros, true), "more than 16 times the");
  refused(file({.elements = 2, .shape = {2}, .strides = {1}}, zeros, true), "its storage \"0\" has 4194304 bytes; 8 are named");
  // A stride that is never stepped by may be anything.
  const int64_t huge = std::numeric_limits<int64_t>::max();
  CHECK(read_torch(file({.elements = 2, .shape = {1, 2, 1}, .strides = {huge, 0, huge}}, two)).tensors.at("w").shape() == Shape{1, 2, 1});
  // A file in which every name is the same tensor's, and one with too many names.
  std::vector<TensorBytes> many;
  for (size_t i = 0; i <= limits::kTorchTensors; ++i) {
    many.push_back({.name = std::to_string(i), .elements = 0, .shape = {0}, .strides = {1}});
  }
  refused(zip_of({{"a/data.pkl", pickle_of(state_of(many))}, {"a/data/0", ""}}), "the state dict has 65537 names; at most 65536");
  refused(zip_of({{"a/data.pkl", pickle_of(state_of({{.name = std::string(1001, 'n')}}))}}), "its name is longer than 1000 bytes");
  refused(zip_of({{"a/data.pkl", pickle_of(state_of({{.name = "\xff", .elements = 2, .shape = {2}, .strides = {1}}}))}, {"a/data/0", two}}),
          "its name is not UTF-8");
}

TEST_CASE("each way to make a tensor of a storage is understood", "[torch]") {
  const TensorBytes two{.elements = 2, .shape = {2}, .strides = {1}};
  TensorBytes bytes = two, unviewed = two, view = two;
  bytes.storage = "torch.storage\nUntypedStorage\n";
  bytes.elements = 8;
  unviewed.view = "N";  // as the older format always has it
  view.view = tuple_of({0, 1, 1});
  const std::string v2 = "ctorch._utils\n_rebuild_tensor_v2\n";
  const auto read = [](const std::string& tensor) {
    return read_torch(zip_of({{"a/data.pkl", pickle_of("}" + text_of("w") + tensor + "s")}, {"a/data/0", "\0\0\x80\x3f\0\0\0\x40"s}}));
  };
  for (const std::string& tensor : {tensor_of(two), tensor_of(unviewed), "ctorch._utils\n_rebuild_tensor\n" + arguments_of(two, "") + "R",
                                    "ctorch._utils\n_rebuild_tensor_v3\n" + arguments_of(bytes, "\x89Nctorch\nfloat32\n") + "R",
                                    "ctorch._utils\n_rebuild_parameter\n(" + tensor_of(two) + "\x88NtR",
                                    "ctorch._utils\n_rebuild_parameter_with_state\n(" + tensor_of(two) + "\x88N}tR",
                                    "ctorch.nn.parameter\nParameter\n" + tensor_of(two) + "\x85R(\x88\x89Ntb",  // before PyTorch 0.4
                                    "ctorch._tensor\n_rebuild_from_type_v2\n(" + v2 + "ctorch\nTensor\n" + arguments_of(two) + "}tR",
                                    "ctorch._utils\n_rebuild_parameter\n(ctorch._tensor\n_rebuild_from_type_v2\n(" + v2 +
                                        "ctorch\nTensor\n" + arguments_of(two) + "}tR\x88NtR"}) {
    INFO(tensor);
    CHECK(read(tensor).tensors.at("w").to_vector<float>() == std::vector<float>{1, 2});
  }
  CHECK_THROWS_WITH(read(tensor_of(view)), Contains("tensor \"w\": its storage is a part of another one"));
  CHECK_THROWS_WITH(read(v2 + "(NNNNtR"), Contains("tensor \"w\": what should be its storage is something else"));
  CHECK_THROWS_WITH(read(v2 + ")R"), Contains("tensor \"w\": it is made of too few arguments"));
  TensorBytes odd = two;
  odd.storage = "torch\nOddStorage\n";
  CHECK_THROWS_WITH(read(tensor_of(odd)), Contains("its storage has the unknown type \"torch.OddStorage\""));
  // Another function with the same arguments makes no tensor.
  CHECK_THROWS_WITH(read("cmy\n_rebuild_tensor_v2\n" + arguments_of(two) + "R"),
                    Contains("there is no state dict") && Contains("\"w\" (an object made by \"my._rebuild_tensor_v2\")"));
}

TEST_CASE("a file that lost its end at any byte is refused", "[torch]") {
  for (const char* name : {"small_zip.pth", "small_legacy.pth"}) {
    const std::string whole = read_file(golden(name));
    CHECK(read_torch(whole).tensors.at("w").to_vector<float>() == std::vector<float>{1, 2});
    for (size_t size = 0; size < whole.size(); ++size) {
      INFO(name << " cut to " << size << " bytes");
      CHECK_THROWS_AS(read_torch(whole.substr(0, size)), DataError);
    }
  }
}

TEST_CASE("a file with any byte changed is refused or read", "[torch]") {
  for (const char* name : {"small_zip.pth", "small_legacy.pth"}) {
    const bool zip = name == std::string("small_zip.pth");
    const std::string whole = read_file(golden(name));
    int accepted = 0, refused = 0;
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const int change : {1, 0x20, 0x80, 0xff}) {
        INFO(name << ", byte " << at << " changed by " << change);
        std::string changed = whole;
        changed[at] = char(changed[at] ^ change);
        try {
          const WeightsFile file = read_torch(changed);
          ++accepted;
          REQUIRE(file.tensors.size() == 1);
          // The archive has checksums, so that what is read is right; without them, values and the name may be others.
          if (zip) CHECK(file.tensors.at("w").to_vector<float>() == std::vector<float>{1, 2});
          CHECK(bytes_of(file) <= 16);
        } catch (const DataError&) {
          ++refused;
        }
      }
    }
    CHECK(accepted > 0);
    CHECK(refused > 100);
  }
}

TEST_CASE("mutated files of PyTorch's give tensors or an error", "[fuzz][torch]") {
  for (const std::vector<const char*>& names :
       {std::vector<const char*>{"plain_legacy", "plain_legacy_protocol4", "strided_legacy", "nested_legacy"},
        std::vector<const char*>{"plain_zip", "plain_deflated", "strided_zip", "nested_zip"}}) {
    std::vector<std::string> seeds;
    for (const char* name : names) seeds.push_back(read_file(golden(name + std::string(".pth"))));
    fuzz(seeds, 4000, 2025, [](const std::string& input) {
      if (bytes_of(read_torch(input)) > limits::kTorchGrowth * input.size() + (1 << 20)) {
        throw std::runtime_error("more values than the file allows");
      }
    });
  }
}

TEST_CASE("mutated pickles in a sound archive give tensors or an error", "[fuzz][torch]") {
  std::vector<std::string> seeds;
  for (int kind = 0; kind < 3; ++kind) {
    std::vector<TensorBytes> tensors = {{.elements = 4, .shape = {2, 2}, .strides = {1, 2}},
                                        {.name = "v", .elements = 4, .offset = kind, .shape = {1}, .strides = {1}}};
    seeds.push_back(pickle_of(kind == 2 ? "}X\5\0\0\0model"s + state_of(tensors) + "s" : state_of(tensors)));
  }
  const std::string storage(16, '\1');
  fuzz(seeds, 4000, 2026, [&](const std::string& input) { read_torch(zip_of({{"a/data.pkl", input}, {"a/data/0", storage}})); });
}

namespace {

// One tensor `w` of two floats, 1 and 2, however its pickle says it.
WeightsFile read_w(const std::string& state) {
  return read_torch(zip_of({{"a/data.pkl", pickle_of(state)}, {"a/data/0", "\0\0\x80\x3f\0\0\0\x40"s}}));
}

const TensorBytes kTwo{.elements = 2, .shape = {2}, .strides = {1}};

// torch.save's older format: magic number, version, system, object, keys of the storages, storages.
std::string legacy_of(const std::string& object,
                      const std::string& keys =
                          "]X\1\0\0\0"
                          "0a"s,
                      const std::string& system = "\x88", const std::string& version = "M\xe9\3") {
  return pickle_of("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"s) + pickle_of(version) +
         pickle_of("}" + text_of("little_endian") + system + "s") + pickle_of(object) + pickle_of(keys) +
         std::string("\2\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40", 16);
}

}  // namespace

TEST_CASE("a tensor's description is looked at before it is believed", "[torch]") {
  const auto refused = [](const std::string& state, const std::string& reason) {
    INFO(reason);
    CHECK_THROWS_AS(read_w(state), DataError);
    CHECK_THROWS_WITH(read_w(state), Contains("weights.pth") && Contains(reason));
  };
  const auto named_w = [](const std::string& value) { return "}" + text_of("w") + value + "s"; };
  const auto storage = [](const std::string& parts) { return "(" + parts + "tQ"; };
  const std::string v2 = "ctorch._utils\n_rebuild_tensor_v2\n", v3 = "ctorch._utils\n_rebuild_tensor_v3\n",
                    known = text_of("storage") + "ctorch\nFloatStorage\n" + text_of("0") + text_of("cpu"), two = known + long_of(2),
                    place = tuple_of({2}) + tuple_of({1});
  CHECK(read_w(named_w(v2 + "(" + storage(two) + long_of(0) + place + "tR")).tensors.at("w").to_vector<float>() ==
        std::vector<float>{1, 2});
  refused(named_w(v2 + "(" + storage(two) + "N" + place + "tR"), "its offset is not an integer");
  refused(named_w(v2 + "(" + storage(two) + long_of(0) + "N" + tuple_of({1}) + "tR"),
          "what should be a tuple with an extent for each axis");
  refused(named_w(v2 + "(" + storage(known) + long_of(0) + place + "tR"), "what should be its storage is something else");
  refused(named_w(v2 + "(" + storage(text_of("module") + two.substr(text_of("storage").size())) + long_of(0) + place + "tR"),
          "what should be its storage is something else");
  refused(named_w(v3 + "(" + storage(two) + long_of(0) + place + "tR"), "it is made of too few arguments");
  refused(named_w(v3 + arguments_of(kTwo, "\x89Nctorch\nodd\n") + "R"), "the element type \"torch.odd\" is not supported");
  // Calls with fewer arguments than they take make no tensor.
  refused(named_w("ctorch._tensor\n_rebuild_from_type_v2\n(" + v2 + "ctorch\nTensor\ntR"), "there is no state dict");
  refused(named_w("ctorch._utils\n_rebuild_parameter\n)R"), "there is no state dict");
  refused("]" + text_of("w") + "a" + tensor_of(kTwo) + "a", "the file holds no mapping");

  TensorBytes tensor = kTwo;
  tensor.storage = "a\nb\n";
  refused(state_of({tensor}), "its storage has the unknown type \"a.b\"");
  tensor.storage = "other\nFloatStorage\n";
  refused(state_of({tensor}), "its storage has the unknown type");
  refused(state_of({{.key = std::string(1001, 'k'), .elements = 2, .shape = {2}, .strides = {1}}}), "the key of its storage is too long");
  refused(state_of({kTwo, {.name = "x", .elements = 1, .shape = {1}, .strides = {1}}}), "its storage \"0\" has two sizes");
  const int64_t most = std::numeric_limits<int64_t>::max();
  refused(state_of({{.elements = 2, .offset = 2, .shape = {2, 2}, .strides = {most, most}}}), "overflows");
  refused(state_of({{.storage = "torch\nDoubleStorage\n", .elements = 1, .shape = {int64_t{1} << 61}, .strides = {0}}}), "overflows");
  CHECK(
      read_w(state_of({{.elements = 2, .shape = {1, 1, 1, 2, 1, 1, 1, 1}, .strides = {9, 9, 9, 1, 9, 9, 9, 9}}})).tensors.at("w").rank() ==
      8);
}

TEST_CASE("values may be repeated up to sixteen times the file, and a mebibyte", "[torch]") {
  const auto rows = [](int64_t times, int64_t elements) {
    const std::string pickle = pickle_of(state_of({{.elements = elements, .shape = {times, elements}, .strides = {0, 1}}}));
    return read_torch(zip_of({{"a/data.pkl", pickle}, {"a/data/0", std::string(size_t(4 * elements), '\0')}})).tensors.at("w").numel();
  };
  CHECK(rows(1 << 17, 1) == 1 << 17);
  CHECK(rows(15, 100'000) == 1'500'000);
  CHECK_THROWS_WITH(rows(20, 100'000), Contains("more than 16 times"));
}

TEST_CASE("a state dict may lie deep, and has names alone for keys", "[torch]") {
  const auto inside = [](const std::string& key, const std::string& value) { return "}" + text_of(key) + value + "s"; };
  const WeightsFile deep = read_w(inside("state_dict", inside("model", state_of({kTwo}))));
  CHECK(deep.metadata.at("taken from") == "state_dict.model");
  CHECK(deep.tensors.at("w").to_vector<float>() == std::vector<float>{1, 2});
  // The first of the known keys that is a mapping.
  CHECK(read_w("}(" + text_of("state_dict") + "K\3" + text_of("model") + state_of({kTwo}) + "u").metadata.at("taken from") == "model");
  const WeightsFile numbered = read_w("}(K\1" + tensor_of(kTwo) + text_of("w") + tensor_of(kTwo) + "u");
  CHECK(numbered.tensors.size() == 1);
  CHECK(numbered.tensors.count("w") == 1);
  TensorBytes bytes = kTwo;
  bytes.storage = "torch\nUntypedStorage\n";
  bytes.elements = 8;
  for (const std::string& tensor : {"ctorch.autograd.variable\nVariable\n" + tensor_of(kTwo) + "\x85R",
                                    "ctorch._utils\n_rebuild_tensor_v3\n" + arguments_of(bytes, "\x89Nctorch\nfloat32\n") + "R"}) {
    INFO(tensor);
    CHECK(read_w(inside("w", tensor)).tensors.at("w").to_vector<float>() == std::vector<float>{1, 2});
  }
  // The folder of an archive is the one that everything is in, not one within it.
  CHECK_THROWS_WITH(read_torch(zip_of({{"a/b/data.pkl", pickle_of(state_of({kTwo}))}})), Contains("it has no data.pkl"));
}

TEST_CASE("the older format says what it is, and its byte order", "[torch]") {
  const std::string state = state_of({kTwo});
  CHECK(read_torch(legacy_of(state)).tensors.at("w").to_vector<float>() == std::vector<float>{1, 2});
  const auto refused = [](const std::string& bytes, const std::string& reason) {
    INFO(reason);
    CHECK_THROWS_AS(read_torch(bytes), DataError);
    CHECK_THROWS_WITH(read_torch(bytes), Contains("weights.pth") && Contains(reason));
  };
  refused(legacy_of(state,
                    "]X\1\0\0\0"
                    "1a"s),
          "no tensor has the storage \"1\"");
  refused(legacy_of(state,
                    "]X\1\0\0\0"
                    "0a"s,
                    "\x89"),
          "its values are big-endian");
  refused(legacy_of(state,
                    "]X\1\0\0\0"
                    "0a"s,
                    "K\1"),
          "it does not say its byte order");
  refused(legacy_of(state,
                    "]X\1\0\0\0"
                    "0a"s,
                    "\x88", "M\xe8\3"),
          "its version is 1000; only 1001 is known");
  refused(pickle_of("G\0\0\0\0\0\0\0\0"s), "this is a pickle, but none that torch.save has written");
  // Beside the storages, such a file knows classes with their source text.
  const std::string with_class = "}(" + text_of("net") + "(" + text_of("module") + "cmy\nNet\n" + text_of("net.py") +
                                 text_of("class Net: 0") + "tQ" + text_of("w") + tensor_of(kTwo) + "u";
  CHECK(read_torch(legacy_of(with_class)).tensors.size() == 1);
}
