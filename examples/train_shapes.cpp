// Training from code, without a configuration file: a small UPerNet with scale equalizers on the built-in pictures.
//
//   ./train_shapes [iterations]
//
// What to see: a model is options and a seed; calibration runs a few forward passes before training and sets the
// constants of every fusion site; a step is forward, loss, backward, update. Ends with the loss before and after.
#include <cstdio>
#include <cstdlib>

#include "autograd/functional.h"
#include "datasets/loader.h"
#include "models/segmentor.h"
#include "training/optimizer.h"

int main(int argc, char** argv) {
  const int iterations = argc > 1 ? std::atoi(argv[1]) : 60;

  eq::DataOptions data;
  data.size = 64;
  eq::PipelineOptions pipeline;
  pipeline.crop = {64, 64};
  pipeline.photometric = false;
  const auto dataset = eq::make_dataset(data, "train");
  eq::DataLoader loader(*dataset, pipeline, {.batch_size = 8});

  eq::InitRandom random(0);
  eq::ModelOptions options;
  options.num_classes = dataset->num_classes();
  options.backbone.width = 16;
  options.decode_head.channels = 32;
  options.equalizer.mode = "explicit";
  options.equalizer.batches = 8;
  eq::EncoderDecoder model(options);

  const auto report = eq::calibrate_equalizers(model, [&](int64_t) { model.forward(loader.next().images); });
  for (const auto& branch : report.branches) {
    std::printf("%-24s %-8s mean %6.3f  std %6.3f\n", branch.site.c_str(), branch.branch.c_str(), branch.mean, branch.std);
  }

  auto optimizer = eq::make_optimizer(eq::optimizer_parameters(model), {.type = "adamw", .lr = 2e-3, .weight_decay = 0.01});
  double first = 0, last = 0;
  for (int step = 0; step < iterations; ++step) {
    const eq::Batch batch = loader.next();
    model.set_step(0, uint64_t(step));
    const eq::Tensor logits = eq::resize_bilinear(model.forward(batch.images).logits, 64, 64, model.align_corners());
    const eq::Tensor loss = eq::cross_entropy(logits, batch.labels);
    model.zero_grad();
    loss.backward();
    optimizer->step(2e-3);
    last = loss.item();
    if (step == 0) first = last;
    if (step % 10 == 0) std::printf("iter %3d  loss %.4f\n", step, last);
  }
  std::printf("loss %.4f -> %.4f\n", first, last);
  return last < first ? 0 : 1;
}
