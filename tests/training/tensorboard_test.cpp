#include "training/tensorboard.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "datasets/image.h"
#include "support.h"
#include "training/interrupted.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

std::string hex_of(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    for (const int digit : {static_cast<unsigned char>(c) >> 4, c & 15}) text += "0123456789abcdef"[digit];
  }
  return text;
}

// A reader that shares nothing with the writer: its checksum goes bit by bit, its messages are walked by the rules of the wire format.
uint32_t checksum(const std::string& bytes) {
  uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0x82f63b78 & (0 - (crc & 1)));
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

struct Field {
  int type = 0;
  uint64_t number = 0;  // of a varint, or the bits of a fixed one
  std::string bytes;
};

// The fields of a message by their numbers.
std::multimap<int, Field> fields(const std::string& message) {
  std::multimap<int, Field> found;
  size_t at = 0;
  const auto fixed = [&](size_t count) {
    REQUIRE(at + count <= message.size());
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value += uint64_t(static_cast<unsigned char>(message[at++])) << (8 * i);
    return value;
  };
  const auto varint = [&] {
    uint64_t value = 0, byte = 0x80;
    for (int shift = 0; byte >= 0x80; shift += 7) value += ((byte = fixed(1)) & 0x7f) << shift;
    return value;
  };
  while (at < message.size()) {
    const uint64_t key = varint();
    Field field{.type = int(key & 7)};
    if (field.type == 0) field.number = varint();
    if (field.type == 1) field.number = fixed(8);
    if (field.type == 5) field.number = fixed(4);
    if (field.type == 2) {
      const uint64_t length = varint();
      REQUIRE(length <= message.size() - at);
      field.bytes = message.substr(at, length);
      at += length;
    }
    found.emplace(int(key >> 3), field);
  }
  return found;
}

struct Scalar {
  int64_t step = 0;
  float value = 0;
  bool operator==(const Scalar&) const = default;
};

struct Picture {
  int64_t step = 0;
  uint64_t height = 0, width = 0, colorspace = 0;
  std::string png;
};

struct Events {
  int versions = 0, sessions = 0;
  std::map<std::string, std::vector<Scalar>> scalars;  // by tag, in the file's order
  std::map<std::string, std::vector<Picture>> pictures;
  std::vector<double> times;
  size_t cut = 0;  // bytes behind the last whole record
  std::vector<int64_t> steps(const std::string& tag) const {
    std::vector<int64_t> result;
    if (scalars.count(tag) > 0) {
      for (const Scalar& scalar : scalars.at(tag)) result.push_back(scalar.step);
    }
    return result;
  }
};

Events read_events(const fs::path& file) {
  const std::string text = read_file(file);
  Events events;
  size_t at = 0;
  const auto little_endian = [&](size_t from, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value += uint64_t(static_cast<unsigned char>(text[from + i])) << (8 * i);
    return value;
  };
  while (text.size() - at >= 16) {
    const uint64_t length = little_endian(at, 8);
    CHECK(little_endian(at + 8, 4) == checksum(text.substr(at, 8)));
    if (length > text.size() - at - 16) break;
    const std::string data = text.substr(at + 12, length);
    CHECK(little_endian(at + 12 + length, 4) == checksum(data));
    at += 16 + length;
    const auto event = fields(data);
    REQUIRE(event.count(1) == 1);
    double time = 0;
    std::memcpy(&time, &event.find(1)->second.number, sizeof time);
    events.times.push_back(time);
    if (event.count(3) > 0) {
      CHECK(event.find(3)->second.bytes == "brain.Event:2");
      ++events.versions;
    }
    if (event.count(7) > 0) {
      CHECK(hex_of(event.find(7)->second.bytes) == "0801");  // status START
      ++events.sessions;
    }
    if (event.count(5) == 0) continue;
    const int64_t step = int64_t(event.find(2)->second.number);
    const auto summary = fields(event.find(5)->second.bytes);
    for (const auto& [number, one] : summary) {
      REQUIRE(number == 1);
      const auto value = fields(one.bytes);
      const std::string tag = value.find(1)->second.bytes;
      if (value.count(2) > 0) {
        const auto bits = uint32_t(value.find(2)->second.number);
        float scalar = 0;
        std::memcpy(&scalar, &bits, sizeof scalar);
        events.scalars[tag].push_back({step, scalar});
      } else {
        const auto image = fields(value.find(4)->second.bytes);
        events.pictures[tag].push_back({step, image.find(1)->second.number, image.find(2)->second.number, image.find(3)->second.number,
                                        image.find(4)->second.bytes});
      }
    }
  }
  events.cut = text.size() - at;
  return events;
}

// A run has one file of events, whatever happened to it.
fs::path event_file(const fs::path& run) {
  const fs::path folder = run / "tensorboard";
  REQUIRE(std::distance(fs::directory_iterator(folder), fs::directory_iterator()) == 1);
  const fs::path file = fs::directory_iterator(folder)->path();
  CHECK_THAT(file.filename().string(), Catch::StartsWith("events.out.tfevents."));
  return file;
}
Events events_of(const fs::path& run) { return read_events(event_file(run)); }

// Without what a clock measured.
std::map<std::string, std::vector<Scalar>> reproducible(const Events& events) {
  auto scalars = events.scalars;
  for (const char* tag : {"train/images_per_second", "train/data_wait", "train/memory_bytes"}) scalars.erase(tag);
  return scalars;
}

Config eventful(std::vector<std::string> settings = {}) {
  settings.insert(settings.begin(), {"train.tensorboard=true", "train.evaluate_every=2", "probes.every=3", "data.val_images=3"});
  return tiny_config(settings);
}

}  // namespace

TEST_CASE("a record of events has its bytes and checksums", "[tensorboard]") {
  CHECK(crc32c("") == 0);
  CHECK(crc32c("123456789") == 0xe3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aa);  // RFC 3720, B.4
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43);
  CHECK(checksum("123456789") == 0xc78ab0e5);  // the reader's own, masked
  ProtobufMessage version;
  version.fixed64(1, 0);
  version.bytes(3, "brain.Event:2");
  CHECK(hex_of(event_record(version.data())) ==
        "1800000000000000"
        "a37f4b22"
        "0900000000000000001a0d627261696e2e4576656e743a32"
        "eedf28a3");
}

TEST_CASE("a run's events are what its tables hold", "[tensorboard]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  const TrainResult result = train(eventful(), quiet(out));
  const Events events = events_of(out);
  CHECK(events.versions == 1);
  CHECK(events.sessions == 0);
  CHECK(events.cut == 0);
  CHECK(std::is_sorted(events.times.begin(), events.times.end()));
  CHECK(events.times.front() > 1.7e9);  // seconds since 1970

  size_t rows = 0;
  std::istringstream lines(read_file(out / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line); ++rows) {
    const auto row = nlohmann::json::parse(line);
    const int64_t step = row["iteration"];
    std::map<std::string, double> expected;
    if (row["type"] == "train") {
      for (const char* name : {"loss", "main_loss", "aux_loss", "lr", "grad_norm", "images_per_second", "data_wait", "memory_bytes"}) {
        expected[std::string("train/") + name] = row[name];
      }
    } else {
      expected = {{"val/mIoU", row["miou"]},
                  {"val/mAcc", row["macc"]},
                  {"val/aAcc", row["aacc"]},
                  {"val/mDice", row["mdice"]},
                  {"val/cross_entropy", row["cross_entropy"]}};
      for (const auto& of_class : row["per_class"]) {
        if (!of_class["iou"].is_null()) expected["val/IoU/" + of_class["name"].get<std::string>()] = of_class["iou"];
      }
    }
    for (const auto& [tag, value] : expected) {
      CAPTURE(tag, step);
      const std::vector<Scalar> found = events.scalars.count(tag) > 0 ? events.scalars.at(tag) : std::vector<Scalar>();
      CHECK(std::count(found.begin(), found.end(), Scalar{step, float(value)}) == 1);
      CHECK(found.size() == 3);
    }
  }
  CHECK(rows == 6);  // iterations 2, 4, 6 of both kinds
  CHECK(events.scalars.at("val/mIoU").back().value == float(result.metrics.miou));

  const std::string probes = read_file(out / "probes.jsonl");
  const auto probe = nlohmann::json::parse(probes.substr(0, probes.find('\n')));
  const auto check_probe = [&](const std::string& tag, const nlohmann::json& first) {  // at sums some are not measured
    CAPTURE(tag);
    CHECK(events.steps(tag) == (first.is_null() ? std::vector<int64_t>() : std::vector<int64_t>{0, 3, 5}));
    if (!first.is_null()) CHECK(events.scalars.at(tag)[0].value == first.get<float>());
  };
  for (const auto& site : probe["sites"]) {
    const std::string begin = "probes/" + site["site"].get<std::string>() + "/";
    check_probe(begin + "grad_ratio", site["grad_ratio"]);
    for (const auto& branch : site["branches"]) {
      const std::string name = branch["name"];
      check_probe(begin + "before_std/" + name, branch["before"]["std"]);
      check_probe(begin + "resized_std/" + name, branch["resized"]["std"]);
      check_probe(begin + "fused_std/" + name, branch["fused"]["std"]);
      check_probe(begin + "weight_grad/" + name, branch["weight_grad"]);
      check_probe(begin + "weight_grad_share/" + name, branch["weight_grad_share"]);
      check_probe(begin + "input_grad/" + name, branch["input_grad"]);
    }
  }
  CHECK(events.steps("probes/decode_head.fpn_fusion/grad_ratio").size() == 3);

  CHECK(events.pictures.size() == 2);  // train.overlays
  for (const auto& entry : fs::directory_iterator(out / "overlays")) {
    const Picture& picture = events.pictures.at("val/overlay/" + entry.path().filename().string().substr(0, 4)).at(0);
    CHECK(picture.png == read_file(entry.path()));
    const Image image = read_image(entry.path());
    CHECK(picture.step == 6);
    CHECK(int64_t(picture.height) == image.height);
    CHECK(int64_t(picture.width) == image.width);
    CHECK(picture.colorspace == 3);
  }
}

TEST_CASE("without the key no events are written, and with it the weights are the same", "[tensorboard]") {
  TemporaryFolder folder;
  const TrainResult off = train(tiny_config({"probes.every=3"}), quiet(folder.path() / "off"));
  const TrainResult on = train(tiny_config({"probes.every=3", "train.tensorboard=true"}), quiet(folder.path() / "on"));
  CHECK_FALSE(fs::exists(folder.path() / "off" / "tensorboard"));
  CHECK(fs::exists(folder.path() / "on" / "tensorboard"));
  CHECK(on.weights_sha256 == off.weights_sha256);
}

TEST_CASE("a run without auxiliary head, probes and overlays has no events of them", "[tensorboard]") {
  TemporaryFolder folder;
  train(tiny_config({"train.tensorboard=true", "model.auxiliary_head=null", "train.overlays=0"}), quiet(folder.path() / "run"));
  const Events events = events_of(folder.path() / "run");
  CHECK(events.steps("train/loss") == std::vector<int64_t>{2, 4, 6});
  CHECK(events.steps("val/mIoU") == std::vector<int64_t>{6});
  CHECK(events.scalars.count("train/aux_loss") == 0);
  CHECK(events.pictures.empty());
  for (const auto& [tag, values] : events.scalars) CHECK_THAT(tag, !Catch::StartsWith("probes/"));
}

TEST_CASE("a resumed run has the events of an uninterrupted one, each step once", "[tensorboard]") {
  TemporaryFolder folder;
  const fs::path whole = folder.path() / "whole", crashed = folder.path() / "crashed";
  train(eventful(), quiet(whole));
  const Events expected = events_of(whole);
  // The checkpoint is that of iteration 3: the events of the probe there and of iteration 4 are made twice.
  CHECK_THROWS_AS(train(eventful(), crash_after(crashed, 5)), Crash);
  const fs::path first = event_file(crashed);
  CHECK(read_events(first).steps("val/mIoU") == std::vector<int64_t>{2, 4});
  SECTION("as the crash left it") {}
  SECTION("with a record that was cut off") {
    const std::string text = read_file(first);
    write_file(first, text.substr(0, text.size() - 5));
    CHECK(read_events(first).cut > 0);
  }
  SECTION("with a length that cannot be") { write_file(first, read_file(first) + std::string(64, '\xff')); }
  SECTION("after a crash while the new file was being written") {
    write_file(crashed / "tensorboard" / ("." + first.filename().string() + ".1.0.tmp"), read_file(first).substr(0, 200));
  }
  SECTION("after another crash") { CHECK_THROWS_AS(train(eventful(), crash_after(crashed, 5, true)), Crash); }
  train(eventful(), quiet(crashed, true));
  const Events events = events_of(crashed);
  CHECK(events.versions == 1);
  CHECK(events.sessions == 1);
  CHECK(events.cut == 0);
  CHECK(reproducible(events) == reproducible(expected));
  for (const auto& [tag, values] : expected.scalars) CHECK(events.steps(tag) == expected.steps(tag));
  CHECK(events.pictures.size() == 2);
  CHECK(event_file(crashed).filename() > first.filename());  // TensorBoard reads on there
}

TEST_CASE("what is made again at the checkpoint's own iteration replaces the events of before", "[tensorboard]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  train(eventful(), quiet(out));
  const Events once = events_of(out);
  train(eventful(), quiet(out, true));  // a finished run: its last evaluation is made again
  const Events twice = events_of(out);
  CHECK(reproducible(twice) == reproducible(once));
  for (const auto& [tag, pictures] : twice.pictures) CHECK(pictures.size() == 1);
  train(eventful({"train.iterations=8"}), quiet(out, true));  // it goes on: its evaluation stays
  CHECK(events_of(out).steps("val/mIoU") == std::vector<int64_t>{2, 4, 6, 8});
  CHECK(events_of(out).pictures.at("val/overlay/0000").size() == 2);

  // A stop before an evaluation, and one within.
  const fs::path stopped = folder.path() / "stopped";
  TrainRequest request = quiet(stopped);
  request.on_step = [](const StepReport& report) {
    if (report.iteration == 3) std::raise(SIGTERM);
  };
  train(eventful(), request);
  CHECK(events_of(stopped).steps("val/mIoU") == std::vector<int64_t>{2});
  train(eventful(), quiet(stopped, true));
  CHECK(reproducible(events_of(stopped)) == reproducible(once));
}

TEST_CASE("a run that starts again leaves no event of its first start, and the key may change", "[tensorboard]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  CHECK_THROWS_AS(train(eventful(), crash_after(out, 3)), Crash);  // before the first checkpoint
  train(eventful({"train.iterations=4"}), quiet(out, true));
  CHECK(events_of(out).steps("train/loss") == std::vector<int64_t>{2, 4});
  train(eventful({"train.iterations=6", "train.tensorboard=false"}), quiet(out, true));
  train(eventful({"train.iterations=8"}), quiet(out, true));
  CHECK(events_of(out).steps("train/loss") == std::vector<int64_t>{2, 4, 8});
}

TEST_CASE("only our own files of events are touched, and one that cannot be written is named", "[tensorboard]") {
  TemporaryFolder folder;
  const fs::path events = folder.path() / "tensorboard", foreign = events / "events.out.tfevents.1.host", notes = events / "notes.txt";
  fs::create_directory(events);
  write_file(foreign, "theirs");
  write_file(notes, "mine");
  const TensorBoardLog first(events, -1, false), second(events, -1, false);
  CHECK(read_file(foreign) == "theirs");
  CHECK(read_file(notes) == "mine");
  CHECK(std::distance(fs::directory_iterator(events), fs::directory_iterator()) == 3);
  fs::remove_all(events);
  CHECK_THROWS_AS(second.progress({.iteration = 1}), IoError);
  write_file(events, "a file");
  CHECK_THROWS_WITH(TensorBoardLog(events, -1, false), Contains("tensorboard"));
}

TEST_CASE("values that are not finite are left out", "[tensorboard]") {
  TemporaryFolder folder;
  SegmentationMetrics metrics;
  metrics.miou = 0.5;
  metrics.macc = metrics.aacc = metrics.mdice = std::nan("");
  metrics.classes = {{.name = "a/b", .iou = 0.5}, {.name = "absent", .iou = std::nan("")}};
  const TensorBoardLog log(folder.path() / "tensorboard", -1, false);
  log.evaluation(7, metrics);
  log.probe({.iteration = 3});  // nothing at all
  const Events events = events_of(folder.path());
  CHECK(events.scalars == std::map<std::string, std::vector<Scalar>>{{"val/mIoU", {{7, 0.5f}}}, {"val/IoU/a/b", {{7, 0.5f}}}});
  CHECK(events.times.size() == 2);
}
