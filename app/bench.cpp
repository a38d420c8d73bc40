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

struct BenchOptions {
  ConfigOptions config;
  MachineOptions machine;
  int64_t steps = 5, size = 256, batch = 8, classes = 0;
  bool no_train = false, no_inference = false;
  std::string json;
};

struct Measured {
  std::vector<double> train_seconds, inference_seconds;
  size_t train_peak = 0;  // bytes of tensors
};

// The configuration that is timed, with the number of classes in its model.
Config timed_config(const BenchOptions& options) {
  Config config = options.config.load();
  note_unread_keys(config);
  const int64_t known = std::max(class_count(config.data), int64_t(config.train.class_weights.size()));
  config.model.num_classes = options.classes > 0 ? options.classes : known > 0 ? known : 11;
  config.train.accumulate = 1;
  config.train.iterations = std::max<int64_t>(config.train.iterations, options.steps + 1);
  return config;
}

Measured measure(EncoderDecoder& model, const Config& config, const BenchOptions& options) {
  const Batch batch = noise_batch(options.batch, options.size, config.model.num_classes);
  Measured measured;
  if (!options.no_train) {
    TrainStep step(model, config);
    model.train();
    measured.train_seconds = time_each(options.steps, [&](int64_t i) { step.run(i, [&] { return batch; }); });
    model.zero_grad();
  }
  measured.train_peak = allocator(model.device()).stats().peak_bytes;
  if (!options.no_inference) {
    model.eval();
    measured.inference_seconds = time_each(options.steps, [&](int64_t) {
      model.predict(batch.images);
      synchronize(model.device());
    });
  }
  return measured;
}

void print_seconds(const char* title, const std::vector<double>& seconds) {
  if (seconds.empty()) return;
  fmt::print("{:<14} median {:.4f} s  best {:.4f} s\n", title, median(seconds), *std::min_element(seconds.begin(), seconds.end()));
}

void print(const Measured& measured, const BenchOptions& options, Device device) {
  fmt::print("{} of {} x {}, {}, {}\n", counted(options.batch, "picture"), options.size, options.size, to_string(device),
             counted(num_threads(), "thread"));
  print_seconds("training step", measured.train_seconds);
  print_seconds("inference", measured.inference_seconds);
  fmt::print("memory         {} of tensors, {} of the process\n", human_bytes(double(measured.train_peak)),
             human_bytes(double(peak_rss_bytes())));
}

nlohmann::json to_json(const Measured& measured, const BenchOptions& options, Device device) {
  return {{"train_step_seconds", measured.train_seconds},
          {"inference_seconds", measured.inference_seconds},
          {"peak_rss_bytes", peak_rss_bytes()},
          {"peak_tensor_bytes", measured.train_peak},
          {"batch_size", options.batch},
          {"size", options.size},
          {"threads", num_threads()},
          {"device", to_string(device)}};
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* parent = add_command(app, "bench", "Measure speed and memory", "equiscale bench train recipes/camvid_upernet_resnet18.json");
  parent->require_subcommand(1);
  CLI::App* command = add_command(*parent, "train", "Time training steps and inference of a configuration's network on noise",
                                  "equiscale bench train recipes/camvid_upernet_resnet18.json --steps 5 --json bench.json");
  auto options = std::make_shared<BenchOptions>();
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
    const Config config = timed_config(*options);
    InitRandom random(uint64_t(config.seed));
    EncoderDecoder model(without_pretrained(config.model));
    if (!options->json.empty()) require_writable(options->json);
    const Measured measured = measure(model, config, *options);
    print(measured, *options, model.device());
    if (!options->json.empty()) write_text_atomically(options->json, to_json(measured, *options, model.device()).dump(2) + "\n");
  });
}

}  // namespace eq::app
