// Bad files through the command: one clear error that names the file, a status that is not zero, nothing destroyed.
#include <nlohmann/json.hpp>

#include "command.h"
#include "core/safetensors.h"
#include "datasets/image.h"

using namespace eq;
using namespace eq::test;

namespace {

// Four good pictures with labels of 11 classes, in folders, and a recipe that trains on them.
struct SmallSet {
  SmallSet() {
    for (const char* name : {"images", "labels"}) std::filesystem::create_directories(root / name);
    for (int i = 0; i < 4; ++i) add(i, 64, 64, 64, 64);
    write_list("a.png", 4);
    write_recipe(11);
  }
  void add(int i, int64_t image_h, int64_t image_w, int64_t label_h, int64_t label_w, int value = -1) {
    Image image{image_h, image_w, std::vector<uint8_t>(size_t(image_h * image_w * 3), uint8_t(40 * i))};
    LabelMap labels{label_h, label_w, std::vector<uint8_t>(size_t(label_h * label_w))};
    for (size_t p = 0; p < labels.labels.size(); ++p) labels.labels[p] = uint8_t(p % 11);
    if (value >= 0) labels.labels[5 * size_t(label_w) + 7] = uint8_t(value);
    write_png(root / "images" / (std::to_string(i) + ".png"), image);
    write_indexed_png(root / "labels" / (std::to_string(i) + ".png"), labels, voc_palette());
  }
  void write_list(const char*, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "images/" + std::to_string(i) + ".png labels/" + std::to_string(i) + ".png\n";
    write_file(root / "list.txt", text);
  }
  void write_recipe(int classes) {
    nlohmann::json names = nlohmann::json::array();
    for (int c = 0; c < classes; ++c) names.push_back("class " + std::to_string(c));
    const nlohmann::json data = {
        {"type", "folders"}, {"root", root.string()}, {"list", {{"train", "list.txt"}, {"val", "list.txt"}}}, {"classes", names}};
    write_file(config, tiny_recipe(data.dump()));
  }
  CommandResult train(const std::string& more = "") const { return equiscale("train " + config + " --out " + out + " " + more); }
  CommandResult predict(const std::string& picture) const {
    return equiscale("predict " + out + " " + picture + " --out " + (folder.path() / "predicted").string());
  }

  TemporaryFolder folder;
  std::filesystem::path root = folder.path() / "set";
  std::string config = (folder.path() / "set.json").string();
  std::string out = (folder.path() / "run").string();
};

std::string big_endian(uint32_t value) {
  return {char(value >> 24), char(value >> 16), char(value >> 8), char(value)};
}

}  // namespace

TEST_CASE("a good small set trains", "[app]") {
  SmallSet set;
  const CommandResult result = set.train();
  INFO(result.output);
  CHECK(result.status == 0);
}

TEST_CASE("faults in a data set are found before training and name the file", "[app]") {
  SmallSet set;
  SECTION("a truncated PNG") {
    const auto path = set.root / "images" / "2.png";
    const std::string bytes = read_file(path);
    write_file(path, bytes.substr(0, bytes.size() / 2));
    check_error(set.train(), 3, "2.png");
  }
  SECTION("a text file named .png") {
    write_file(set.root / "images" / "1.png", "this is not a picture\n");
    check_error(set.train(), 3, "1.png");
  }
  SECTION("a label of 200 in an 11-class set") {
    set.add(3, 64, 64, 64, 64, 200);
    const CommandResult result = set.train();
    check_error(result, 3, "3.png");
    CHECK(result.output.find("200") != std::string::npos);
  }
  SECTION("image and label of different sizes") {
    set.add(2, 64, 64, 32, 64);
    const CommandResult result = set.train();
    check_error(result, 3, "2.png");
    CHECK(result.output.find("64") != std::string::npos);
    CHECK(result.output.find("32") != std::string::npos);
  }
  SECTION("an empty list file") {
    write_file(set.root / "list.txt", "");
    check_error(set.train(), 3, "list.txt");
  }
  SECTION("a truncated picture of those to evaluate on") {
    const std::string bytes = read_file(set.root / "images" / "2.png");
    write_file(set.root / "images" / "last.png", bytes.substr(0, bytes.size() - 20));
    write_file(set.root / "val.txt", "images/0.png labels/0.png\nimages/last.png labels/2.png\n");
    const CommandResult result = set.train("--set data.list.val=val.txt");
    check_error(result, 3, "last.png");
    CHECK(result.output.find("iter ") == std::string::npos);
  }
  SECTION("a missing folder") {
    check_error(set.train("--set data.root=" + (set.folder.path() / "nowhere").string()), 3, "nowhere");
  }
  SECTION("a class that never occurs") {
    set.write_recipe(12);
    check_error(set.train(), 3, "class 11");
    const CommandResult result = set.train("--dry-run --set data.checks=files");
    INFO(result.output);
    CHECK(result.status == 0);
    CHECK(result.output.find("4 pictures to train on (8 epochs), 4 to evaluate on\nWARNING: 1 of 12 classes never occur: 11 class 11") !=
          std::string::npos);
  }
  SECTION("pictures to evaluate on that lack classes, or have no labels at all, are no fault, but said") {
    const std::string remark = "\nWARNING: of the pictures to evaluate on, ";
    const auto dry_run = [&](const std::string& sample) {
      write_file(set.root / "other.txt", sample);
      const CommandResult result = set.train("--dry-run --set data.list.val=other.txt");
      CHECK(result.status == 0);
      return result.output;
    };
    CHECK(dry_run("images/0.png labels/0.png\n").find(remark) == std::string::npos);
    write_indexed_png(set.root / "labels" / "few.png", {64, 64, std::vector<uint8_t>(64 * 64, 3)}, voc_palette());
    CHECK(dry_run("images/0.png labels/few.png\n").find(remark + "10 of 11 classes never occur: 0 class 0, ") != std::string::npos);
    write_indexed_png(set.root / "labels" / "none.png", {64, 64, std::vector<uint8_t>(64 * 64, 255)}, voc_palette());
    CHECK(dry_run("images/0.png labels/none.png\n").find(remark + "100 % of the pixels are ignored") != std::string::npos);
  }
  CHECK_FALSE(std::filesystem::exists(set.out + "/model.safetensors"));
}

TEST_CASE("inspect data names a bad file, and says of training only what is so", "[app]") {
  SmallSet set;
  auto inspect = [&](const std::string& more = "") { return equiscale("inspect data " + set.config + " " + more); };
  auto says = [](const CommandResult& result, const std::string& text) {
    INFO(result.output);
    CHECK(result.status == 0);
    return result.output.find(text) != std::string::npos;
  };
  SECTION("a truncated picture") {
    const std::string path = (set.root / "images" / "2.png").string(), bytes = read_file(path);
    write_file(path, bytes.substr(0, bytes.size() - 20));
    const CommandResult result = inspect();
    check_error(result, 3, "\n  where: " + path + "\n");
    CHECK(result.output.find("\n  " + path + ": ") != std::string::npos);
  }
  SECTION("a class that never occurs") {
    set.write_recipe(12);
    const CommandResult refused = inspect();
    check_error(refused, 3,
                "training would refuse this set: 1 of 12 classes never occur: 11 class 11 (the labels of the 4 samples inspected)");
    for (const char* untrained : {"--split val", "--set data.checks=false", "--set data.checks=files"}) {
      const CommandResult result = inspect(untrained);
      CHECK(says(result, "remark: 1 of 12 classes never occur: 11 class 11"));
      CHECK_FALSE(says(result, "training"));
    }
  }
  SECTION("a class that more pictures would show") {
    set.write_recipe(12);
    set.add(3, 64, 64, 64, 64, 11);
    CHECK(says(inspect("--samples 1"),
               "remark: 1 of 12 classes never occur: 11 class 11 (the labels of the 1 sample inspected); "
               "the check before training finds nothing wrong with this set"));
    CHECK(says(inspect(), "no problems found"));
  }
}

TEST_CASE("prediction refuses what is no picture, or too large a one", "[app]") {
  SmallSet set;
  REQUIRE(set.train().status == 0);
  SECTION("a PNG that declares 100,000 x 100,000 pixels") {
    std::string bytes = read_file(set.root / "images" / "0.png");
    bytes.replace(16, 8, big_endian(100000) + big_endian(100000));
    write_file(set.folder.path() / "huge.png", bytes);
    check_error(set.predict((set.folder.path() / "huge.png").string()), 3, "huge.png");
  }
  SECTION("a JPEG that declares 65,535 x 65,535 pixels") {
    const std::string header("\xFF\xD8\xFF\xC0\x00\x11\x08\xFF\xFF\xFF\xFF\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01\xFF\xD9", 23);
    write_file(set.folder.path() / "huge.jpg", header);
    check_error(set.predict((set.folder.path() / "huge.jpg").string()), 3, "huge.jpg");
  }
  SECTION("a missing picture") { check_error(set.predict((set.folder.path() / "none.png").string()), 3, "none.png"); }
  SECTION("an empty folder") {
    std::filesystem::create_directory(set.folder.path() / "empty");
    check_error(set.predict((set.folder.path() / "empty").string()), 3, "empty");
  }
}

TEST_CASE("inspect ckpt shows a checkpoint's weights", "[app]") {
  SmallSet set;
  REQUIRE(set.train().status == 0);
  const std::filesystem::path run = set.out, checkpoint = run / "checkpoint";
  std::string model;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
    if (entry.path().filename().string().starts_with("model-")) model = entry.path().string();
  }
  for (int i = 0; i < 20; ++i) write_file(checkpoint / (std::to_string(i) + ".safetensors"), "");  // one of them would come first
  std::filesystem::remove(run / "model.safetensors");
  for (const std::filesystem::path& given : {run, checkpoint}) {
    const CommandResult result = equiscale("inspect ckpt " + given.string());
    INFO(result.output);
    CHECK(result.status == 0);
    CHECK(result.output.starts_with(model + "\n"));
    CHECK(result.output.find("decode_head.conv_seg.weight") != std::string::npos);
  }
  REQUIRE(equiscale("train " + set.config + " --out " + set.out + "_ema --set train.ema=0.5").status == 0);
  std::filesystem::remove(set.out + "_ema/model.safetensors");
  CHECK(equiscale("inspect ckpt " + set.out + "_ema").output.starts_with(set.out + "_ema/checkpoint/ema-"));  // what eval takes

  const std::string odd = (run / "odd.safetensors").string();
  write_safetensors(odd, {{"a\x1b[2Jb", Tensor::zeros({1})}});
  CHECK(equiscale("inspect ckpt " + odd).output.find(R"("a\u001b[2Jb")") != std::string::npos);
  std::filesystem::remove(checkpoint / "manifest.json");
  check_error(equiscale("inspect ckpt " + checkpoint.string()), 3, "give one of them, such as " + (checkpoint / "0.safetensors").string());
  std::filesystem::create_symlink("loop", run / "loop");
  check_error(equiscale("inspect ckpt " + (run / "loop").string()), 3, "Too many levels");
}

TEST_CASE("inspect ckpt --compare says in what two files differ", "[app]") {
  const TemporaryFolder folder;
  const auto path = [&](const std::string& name) { return (folder.path() / (name + ".safetensors")).string(); };
  std::map<std::string, Tensor> weights{{"a\x1b", Tensor::zeros({2})}, {"b", Tensor::full({2, 2}, 4)}};
  write_safetensors(path("a"), weights);
  const std::string command = "inspect ckpt " + path("a") + " --compare ";
  CHECK(equiscale(command + path("a")).output.ends_with("\nthe same 2 tensors, equal to the bit\n"));
  weights["b"] = Tensor::full({2, 2}, 5);
  weights["c"] = Tensor::zeros({1});
  write_safetensors(path("b"), weights);
  const CommandResult result = equiscale(command + path("b"));
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK(result.output.find("only in the other file (1)\n  c\n") != std::string::npos);
  CHECK(
      result.output.ends_with("other tensors: 2 in both files, 0 of them of another shape, 1 in one file alone; 1 equal to the bit, the "
                              "others apart by up to 0.2 times their largest value (b)\n"));
  const nlohmann::json json = nlohmann::json::parse(equiscale(command + path("b") + " --json").output);
  CHECK(json["shared"].size() == 2);
  CHECK(json["shared"][1]["largest_difference"] == 1);
  CHECK(json["only_in_other_file"][0] == "c");
  write_safetensors(path("many"), [] {
    std::map<std::string, Tensor> many;
    for (int i = 0; i < 30; ++i) many["t" + std::to_string(i)] = Tensor::zeros({1});
    return many;
  }());
  CHECK(equiscale(command + path("many")).output.find("  ... and 20 more (--all)\n") != std::string::npos);
  CHECK(equiscale(command + path("many") + " --all").output.find("more (--all)") == std::string::npos);
  CHECK(equiscale(command + path("many")).output.ends_with("\ntwo networks: no tensor is in both files\n"));
  check_error(equiscale(command + path("none")), 3, "none.safetensors");
  check_error(equiscale("inspect ckpt --all " + path("a")), 2, "--compare");
}

TEST_CASE("inspect ckpt shows PyTorch's files", "[app]") {
  const CommandResult result = equiscale("inspect ckpt " EQ_GOLDEN_DIR "/torch/nested_legacy.pth");
  INFO(result.output);
  CHECK(result.status == 0);
  for (const char* line : {"  taken from = state_dict\n", "  left out = \"meta\", \"optimizer\", \"epoch\"\n", "float32  [3, 2, 1, 2]\n",
                           "11 tensors, 46 values\n"}) {
    CHECK(result.output.find(line) != std::string::npos);
  }
  const nlohmann::json json = nlohmann::json::parse(equiscale("inspect ckpt --json " EQ_GOLDEN_DIR "/torch/plain_zip.pth").output);
  CHECK(json["tensors"].size() == 11);
  check_error(equiscale("inspect ckpt " EQ_GOLDEN_DIR "/torch/int16_zip.pth"), 3, "tensor \"w\": the element type int16 is not supported");
}

TEST_CASE("damaged or foreign weights are refused and left alone", "[app]") {
  SmallSet set;
  REQUIRE(set.train().status == 0);
  const std::filesystem::path weights = std::filesystem::path(set.out) / "model.safetensors";
  const std::string good = read_file(weights);
  SECTION("truncated") {
    write_file(weights, good.substr(0, good.size() - 100));
    check_error(equiscale("eval " + weights.string()), 3, "model.safetensors");
  }
  SECTION("overlapping tensors") {
    const std::string header =
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
    std::string bytes(8, '\0');
    bytes[0] = char(header.size());
    write_file(weights, bytes + header + std::string(12, '\0'));
    check_error(equiscale("inspect ckpt " + weights.string()), 3, "model.safetensors");
  }
  SECTION("of another class count") {
    set.write_recipe(10);
    // The labels hold 11 classes, so the checks are off: the weights are what must be refused.
    const CommandResult result = set.train("--resume --set data.checks=false");
    check_error(result, 3, "11");
    CHECK(result.output.find("10") != std::string::npos);
  }
}

TEST_CASE("a full disk during checkpointing leaves the last good checkpoint", "[app]") {
  SmallSet set;
  const std::string mount = (set.folder.path() / "small").string();
  std::filesystem::create_directory(mount);
  if (run_command("mount -t tmpfs -o size=3m tmpfs " + mount).status != 0) {
    WARN("SKIPPED: mounting a tmpfs needs root");
    return;
  }
  const std::string run = mount + "/run";
  const std::string train = "train " + set.config + " --out " + run;
  const CommandResult first = equiscale(train + " --set train.overlays=0 --set train.iterations=2");
  INFO(first.output);
  CHECK(first.status == 0);
  run_command("dd if=/dev/zero of=" + mount + "/filler bs=4k");  // until nothing is left
  const CommandResult full = equiscale(train + " --resume --set train.overlays=0 --set train.iterations=6");
  check_error(full, 3, "small/run");
  run_command("rm " + mount + "/filler");
  const CommandResult after = equiscale(train + " --resume --set train.overlays=0 --set train.iterations=6");
  INFO(after.output);
  CHECK(after.status == 0);
  run_command("umount " + mount);
}

TEST_CASE("what two files share is called the same where it is", "[app]") {
  const TemporaryFolder folder;
  const auto compared = [&](const std::map<std::string, Tensor>& first, const std::map<std::string, Tensor>& other) {
    const std::string a = (folder.path() / "a.safetensors").string(), b = (folder.path() / "b.safetensors").string();
    write_safetensors(a, first);
    write_safetensors(b, other);
    return equiscale("inspect ckpt " + a + " --compare " + b).output;
  };
  const auto ends = [](const std::string& output, const std::string& verdict) {
    INFO(output);
    CHECK(output.ends_with("\n" + verdict + "\n"));
  };
  const Tensor zero = Tensor::zeros({2}), one = Tensor::full({2}, 1), longer = Tensor::zeros({3}), minus = Tensor::full({2}, -0.0);
  ends(compared({{"w", zero}}, {{"w", one}}),
       "the same 1 tensor; 0 equal to the bit, the others apart by up to 1 times their largest value (w)");
  ends(compared({{"w", zero}}, {{"w", minus}}), "the same 1 tensor; 0 equal to the bit, the others equal in value");
  const std::string shapes = compared({{"v", one}, {"w", zero}}, {{"v", one}, {"w", longer}});
  ends(shapes, "other tensors: 2 in both files, 1 of them of another shape, 0 in one file alone; 1 equal to the bit");
  CHECK(shapes.find("of other values") == std::string::npos);
}

TEST_CASE("data stats leaves out what cannot be read, and says so", "[app]") {
  SmallSet set;
  const auto spoil = [&](int i) { write_file(set.root / "images" / (std::to_string(i) + ".png"), "no picture"); };
  spoil(2);
  const CommandResult some = equiscale("data stats " + set.config);
  INFO(some.output);
  CHECK(some.status == 0);
  CHECK(some.output.find("note: 1 problem with files, which are left out here") != std::string::npos);
  for (int i = 0; i < 4; ++i) spoil(i);
  check_error(equiscale("data stats " + set.config), 3, "no picture could be read");
}
