#include "training/evaluation_files.h"

#include "core/csv.h"
#include "support.h"
#include "training/tiny.h"

using namespace eq;
using namespace eq::test;
namespace fs = std::filesystem;

namespace {

Tensor as_tensor(const LabelMap& map) {
  Tensor tensor = Tensor::empty({map.height, map.width}, DType::kUInt8);
  std::copy(map.labels.begin(), map.labels.end(), tensor.data<uint8_t>());
  return tensor;
}

void add(EvaluationFiles& files, int64_t index, const Tensor& labels, const Tensor& predictions) {
  ConfusionMatrix confusion(8, 255);
  confusion.add(labels, predictions);
  files.add({index, labels, predictions, confusion, 0.25});
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("an evaluation leaves its confusions and its extreme pictures", "[evaluate]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "eval";
  const auto dataset = make_dataset(tiny_config().data, "val");
  REQUIRE(dataset->size() == 5);
  fs::create_directories(out);
  write_file(out / "best_9_0004.png", "of an earlier evaluation");
  write_file(out / "confusion.csv", "likewise");
  write_file(out / "mine.png", "of someone else");
  EvaluationFiles files(*dataset, out, 3);
  // Of picture i, the first 8 i rows are predicted as class 7.
  std::vector<int64_t> expected(64);
  for (int64_t i : {3, 0, 4, 1, 2}) {
    const LabelMap labels = dataset->load(i).labels;
    LabelMap predicted = labels;
    for (int64_t p = 0; p < labels.height * labels.width; ++p) {
      uint8_t& value = predicted.labels[size_t(p)];
      if (p / labels.width < 8 * i) value = 7;
      if (value == dataset->ignore_index()) value = 0;
      if (labels.labels[size_t(p)] != dataset->ignore_index()) ++expected[size_t(labels.labels[size_t(p)] * 8 + value)];
    }
    add(files, i, as_tensor(labels), as_tensor(predicted));
  }
  files.write();
  const auto confusion = lines_of(out / "confusion.csv");
  REQUIRE(confusion.size() == 9);
  std::vector<std::string> header = dataset->class_names();
  header.insert(header.begin(), "label \\ prediction (pixels)");
  CHECK(csv_fields(confusion[0], "") == header);
  for (size_t row = 0; row < 8; ++row) {
    const auto fields = csv_fields(confusion[row + 1], "");
    REQUIRE(fields.size() == 9);
    CHECK(fields[0] == dataset->class_names()[row]);
    for (size_t k = 0; k < 8; ++k) CHECK(fields[k + 1] == std::to_string(expected[row * 8 + k]));
  }
  const auto pictures = lines_of(out / "pictures.csv");
  REQUIRE(pictures.size() == 6);
  CHECK(pictures[0] == "index,name,miou,accuracy,cross_entropy");
  CHECK(pictures[2] == "0,0,1,1,0.25");  // in the order in which they were seen
  // Half of five: two of each, the best first; what was there before is gone, other files are not.
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(out)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"best_1_0000.png", "best_2_0001.png", "confusion.csv", "mine.png", "pictures.csv",
                                          "worst_1_0004.png", "worst_2_0003.png"});
  const Image drawn = read_image(out / "worst_1_0004.png");
  CHECK(drawn.width == 4 * 64 + 3 * 4);
  CHECK(drawn.height == 64);
  const Image perfect = read_image(out / "best_1_0000.png");
  for (int64_t x = 3 * 68; x < perfect.width; ++x) {
    CHECK_FALSE((perfect.pixels[size_t(x * 3)] == 213 && perfect.pixels[size_t(x * 3 + 1)] == 40));
  }
}

TEST_CASE("pictures in a folder without an evaluation's table are left alone", "[evaluate]") {
  TemporaryFolder folder;
  const auto dataset = make_dataset(tiny_config().data, "val");
  write_file(folder.path() / "best_shots.png", "of a holiday");
  EvaluationFiles(*dataset, folder.path(), 0).write();
  CHECK(read_file(folder.path() / "best_shots.png") == "of a holiday");
}

TEST_CASE("no pictures are drawn when none are wanted", "[evaluate]") {
  TemporaryFolder folder;
  const auto dataset = make_dataset(tiny_config().data, "val");
  EvaluationFiles files(*dataset, folder.path() / "eval", 0);
  add(files, 0, as_tensor(dataset->load(0).labels), Tensor::zeros({64, 64}, DType::kUInt8));
  files.write();
  CHECK(std::distance(fs::directory_iterator(folder.path() / "eval"), fs::directory_iterator()) == 2);
}
