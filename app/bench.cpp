// equiscale bench train CONFIG: seconds of whole training steps and of inference, on pictures made of noise, so that neither
// files nor augmentation are timed. benchmarks/train_step.py sets the same beside PyTorch.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "app/common.h"
#include "core/allocator.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/words.h"
#include "datasets/dataset.h"
#include "training/train_step.h"

namespace eq::app {
namespace {

Batch noise_batch(int64_t batch_size, int64_t size, int64_t classes) {
  Batch batch;
  batch.images = Tensor::empty({batch_size, size, size, 3});
  batch.labels = Tensor::empty({batch_size, size, size}, DType::kUInt8);
  Random random(1);
  for (int64_t i = 0; i < batch.images.numel(); ++i) batch.images.data<float>()[i] = float(random.normal());
  // Labels in squares of 16 pixels, so that the classes are spread evenly.
  for (int64_t n = 0; n < batch_size; ++n) {
    for (int64_t y = 0; y < size; ++y) {
      for (int64_t x = 0; x < size; ++x) batch.labels.data<uint8_t>()[(n * size + y) * size + x] = uint8_t((n + y / 16 + x / 16) % classes);
    }
  }
  return batch;
}

std::vector<double> time_each(int64_t repeats, const std::function<void(int64_t)>& work) {
  work(0);  // memory and packed weights are in place after the first
  std::vector<double> seconds;
  for (int64_t i = 1; i <= repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work(i);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return seconds;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t(usage.ru_maxrss) * 1024;
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* parent = add_command(app, "bench", "Measure speed and memory", "equiscale bench train recipes/camvid_upernet_resnet18.json");
  parent->require_subcommand(1);
  CLI::App* command = add_command(*parent, "train", "Time training steps and inference of a configuration's network on noise",
                                  "equiscale bench train recipes/camvid_upernet_resnet18.json --steps 5 --json bench.json");
  struct Options {
    ConfigOptions config;
    MachineOptions machine;
    int64_t steps = 5, size = 256, batch = 8, classes = 0;
    bool no_train = false, no_inference = false;
    std::string json;
  };
  auto options = std::make_shared<Options>();
  options->config.add_to(command);
  options->machine.add_to(command);
  command->add_option("--steps", options->steps, "Timed repetitions, after one to warm up")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command->add_option("--size", options->size, "Side of the square pictures in pixels")->capture_default_str()->check(CLI::Range(32, 4096));
  command->add_option("--batch", options->batch, "Pictures per step")->capture_default_str()->check(CLI::Range(1, 1024));
  command->add_option("--classes", options->classes, "Number of classes (default: the data set's, if the configuration tells, else 11)")
      ->check(CLI::Range(2, 255));
  command->add_flag("--no-train", options->no_train, "Time inference only");
  command->add_flag("--no-inference", options->no_inference, "Time training only");
  command->add_option("--json", options->json, "Write the measurements to this file");
  command->callback([options] {
    if (options->no_train && options->no_inference) {
      throw UsageError("nothing is left to time", "--no-train --no-inference", "leave one of them out");
    }
    options->machine.apply();
    Config config = options->config.load();
    note_unread_keys(config);
    const int64_t known = std::max(class_count(config.data), int64_t(config.train.class_weights.size()));
    const int64_t classes = options->classes > 0 ? options->classes : known > 0 ? known : 11;
    config.model.num_classes = classes;
    config.train.accumulate = 1;
    config.train.iterations = std::max<int64_t>(config.train.iterations, options->steps + 1);
    InitRandom random(uint64_t(config.seed));
    EncoderDecoder model(without_pretrained(config.model));
    const Batch batch = noise_batch(options->batch, options->size, classes);
    if (!options->json.empty()) require_writable(options->json);
    std::vector<double> train_seconds, inference_seconds;
    if (!options->no_train) {
      TrainStep step(model, config);
      model.train();
      train_seconds = time_each(options->steps, [&](int64_t i) { step.run(i, [&] { return batch; }); });
      model.zero_grad();
    }
    const size_t train_peak = allocator(model.device()).stats().peak_bytes;
    if (!options->no_inference) {
      model.eval();
      inference_seconds = time_each(options->steps, [&](int64_t) {
        model.predict(batch.images);
        synchronize(model.device());
      });
    }
    fmt::print("{} of {} x {}, {}, {}\n", counted(options->batch, "picture"), options->size, options->size, to_string(model.device()),
               counted(num_threads(), "thread"));
    if (!train_seconds.empty()) {
      fmt::print("training step  median {:.4f} s  best {:.4f} s\n", median(train_seconds),
                 *std::min_element(train_seconds.begin(), train_seconds.end()));
    }
    if (!inference_seconds.empty()) {
      fmt::print("inference      median {:.4f} s  best {:.4f} s\n", median(inference_seconds),
                 *std::min_element(inference_seconds.begin(), inference_seconds.end()));
    }
    fmt::print("memory         {} of tensors, {} of the process\n", human_bytes(double(train_peak)), human_bytes(double(peak_rss_bytes())));
    if (!options->json.empty()) {
      const nlohmann::json result = {{"train_step_seconds", train_seconds},
                                     {"inference_seconds", inference_seconds},
                                     {"peak_rss_bytes", peak_rss_bytes()},
                                     {"peak_tensor_bytes", train_peak},
                                     {"batch_size", options->batch},
                                     {"size", options->size},
                                     {"threads", num_threads()},
                                     {"device", to_string(model.device())}};
      write_text_atomically(options->json, result.dump(2) + "\n");
    }
  });
}

}  // namespace eq::app
