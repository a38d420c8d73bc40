#include "study/theory/learning.h"

#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/random.h"
#include "layers/fusion.h"
#include "training/optimizer.h"

namespace eq {
namespace {

constexpr int64_t kTaskSide = 16, kImages = 4, kTaskChannels = 3, kTaskOutputs = 3;
constexpr int64_t kNoiseSide = 32;
constexpr uint64_t kChangeStream = 0x4348414E4745;  // "CHANGE"

double dot(const Tensor& a, const Tensor& b) { return sum(mul(a, b)).item(); }

// x without its parts along orthonormal directions. Twice: once leaves of them what rounding left of x.
Tensor without(const std::vector<Tensor>& directions, Tensor x) {
  for (int pass = 0; pass < 2; ++pass) {
    for (const Tensor& direction : directions) x = x - direction * dot(direction, x);
  }
  return x;
}

// What a field at the fusion is to a level of this shape: the adjoint of its resizing.
Tensor seen_from(const Shape& shape, const Tensor& at_fusion) {
  Tensor x = Tensor::zeros(shape, at_fusion.dtype()).set_requires_grad();
  resize_bilinear(x, at_fusion.size(1), at_fusion.size(2), false).backward(at_fusion);
  return x.grad();
}

// A channel that is orthogonal at the fusion to all `others`, which it joins.
Tensor orthogonal_channel(Lab& lab, const Shape& shape, double deviation, std::vector<Tensor>& others) {
  std::vector<Tensor> directions;
  for (const Tensor& other : others) {
    const Tensor direction = without(directions, seen_from(shape, other));
    directions.push_back(direction / std::sqrt(dot(direction, direction)));
  }
  Tensor x = without(directions, lab.normal(shape, DType::kFloat64));
  Tensor at_fusion = resize_bilinear(x, kTaskSide, kTaskSide, false);
  const double scale = deviation / std::sqrt(mean(square(at_fusion)).item());
  others.push_back(at_fusion * scale);
  return x * scale;
}

class Student : public Module {
 public:
  Student(const Levels& levels, const std::string& mode)
      : levels_(levels),
        conv_(register_module<Conv2d>("conv", channels(), kTaskOutputs, Conv2dLayerOptions{})),
        site_(register_module<FusionSite>("site", branches(), Upsampling(), options(mode), conv_)) {
    std::vector<BranchConstants> constants;
    for (const MeanVariance& m : levels_.moments) constants.push_back({{m.mean}, {std::sqrt(m.variance)}});
    if (has_constants(site_.options())) site_.set_constants(constants);
  }

  Tensor forward() { return site_.forward(levels_.features, levels_.side, levels_.side); }
  Tensor weight() const { return conv_.weight(); }
  Tensor weights() const {
    const NoGradGuard no_grad;
    return concat({reshape(conv_.weight(), {kTaskOutputs, channels()}), reshape(conv_.bias(), {kTaskOutputs, 1})}, 1);
  }
  std::vector<int64_t> first_channels() const {
    std::vector<int64_t> first{0};
    for (const Tensor& level : levels_.features) first.push_back(first.back() + level.size(3));
    return first;
  }

 private:
  static EqualizerOptions options(const std::string& mode) {
    EqualizerOptions options;
    options.mode = mode;
    return options;
  }
  int64_t channels() const { return first_channels().back(); }
  std::vector<LevelSite::Branch> branches() const {
    std::vector<LevelSite::Branch> branches;
    for (const Tensor& level : levels_.features) {
      branches.push_back(
          {.name = "level " + std::to_string(branches.size()), .channels = level.size(3), .upsampled = level.size(1) < levels_.side});
    }
    return branches;
  }

  Levels levels_;
  Conv2d& conv_;
  FusionSite& site_;
};

// What the weight lacks, in its own unit.
Tensor change_of(const Lesson& lesson, const Student& student) {
  const std::vector<int64_t> first = student.first_channels();
  Tensor change = Tensor::empty(student.weight().shape(), DType::kFloat64);
  Random random(lesson.seed, kChangeStream);
  for (int64_t o = 0; o < kTaskOutputs; ++o) {
    double* row = change.data<double>() + o * first.back();
    for (size_t level = 0; level + 1 < first.size(); ++level) {
      const double unit = lesson.mode == "explicit" ? 1 : std::sqrt(lesson.levels.moments[level].variance);
      for (int64_t c = first[level]; c < first[level + 1]; ++c) row[c] = (random.bernoulli(0.5) ? lesson.change : -lesson.change) / unit;
    }
  }
  return change;
}

Tensor output_of(Student& student, bool norm_behind) {
  const Tensor y = student.forward();
  if (!norm_behind) return y;
  Tensor running_mean = Tensor::zeros({kTaskOutputs}, y.dtype()), running_var = Tensor::full({kTaskOutputs}, 1, y.dtype());
  return batch_norm(y, {}, {}, running_mean, running_var, {.eps = 0, .update_running = false});
}

}  // namespace

double descent_factor(double rate, double deviation) { return 1 - rate * deviation * deviation; }

std::vector<double> adam_remaining(double stride, const std::array<double, 2>& betas, int64_t steps) {
  std::vector<double> remaining{1};
  double mean = 0, square = 0;
  for (int64_t t = 1; t <= steps; ++t) {
    const double gradient = remaining.back();
    mean = betas[0] * mean + (1 - betas[0]) * gradient;
    square = betas[1] * square + (1 - betas[1]) * gradient * gradient;
    const double m = mean / (1 - std::pow(betas[0], double(t))), v = square / (1 - std::pow(betas[1], double(t)));
    remaining.push_back(gradient - (v > 0 ? stride * m / std::sqrt(v) : 0));
  }
  return remaining;
}

double crossing(const std::vector<double>& remaining, double share) {
  for (size_t t = 1; t < remaining.size(); ++t) {
    if (remaining[t] > share * remaining[0]) continue;
    return double(t) - (share * remaining[0] - remaining[t]) / (remaining[t - 1] - remaining[t]);
  }
  return std::nan("");
}

Levels whitened_levels(Lab& lab, const std::vector<int64_t>& ratios, const std::vector<double>& deviations) {
  Levels levels{kTaskSide, std::vector<Tensor>(ratios.size()), {}};
  std::vector<Tensor> others{
      Tensor::full({kImages, kTaskSide, kTaskSide, 1}, 1, DType::kFloat64)};  // a constant: who is orthogonal to it has mean 0
  // The coarsest first: it has the fewest cells to be orthogonal with.
  for (size_t i = ratios.size(); i-- > 0;) {
    std::vector<Tensor> channels;
    const Shape shape{kImages, kTaskSide / ratios[i], kTaskSide / ratios[i], 1};
    for (int64_t c = 0; c < kTaskChannels; ++c) channels.push_back(orthogonal_channel(lab, shape, deviations[i], others));
    levels.features[i] = concat(channels, 3);
  }
  for (const double deviation : deviations) levels.moments.push_back({0, deviation * deviation});
  return levels;
}

Levels noise_levels(Lab& lab, int64_t images, const std::vector<int64_t>& ratios, bool rectified) {
  Levels levels{kNoiseSide, {}, {}};
  for (const int64_t ratio : ratios) {
    const int64_t cells = kNoiseSide / ratio;
    const Tensor noise = lab.normal({images, cells, cells, kTaskChannels}, DType::kFloat64);
    const MeanVariance before = rectified ? rectified_moments(0, 1) : MeanVariance{0, 1};
    levels.features.push_back(rectified ? relu(noise) : noise);
    levels.moments.push_back({before.mean, before.variance * std::pow(bilinear_variance_factor(cells, kNoiseSide, false), 2)});
  }
  return levels;
}

Tensor inputs_of(const Levels& levels, bool equalized) {
  FuseLevelsOptions options{.out_h = levels.side, .out_w = levels.side};
  for (const MeanVariance& m : levels.moments) {
    if (!equalized) break;
    options.shift.push_back(Tensor::full({1}, m.mean, DType::kFloat64));
    options.scale.push_back(Tensor::full({1}, 1 / std::sqrt(m.variance), DType::kFloat64));
  }
  const Tensor fused = fuse_levels(levels.features, options);
  const int64_t pixels = fused.numel() / fused.size(3);
  return concat({reshape(fused, {pixels, fused.size(3)}), Tensor::full({pixels, 1}, 1, DType::kFloat64)}, 1);
}

Tensor Course::error(size_t step, size_t level) const {
  return slice(weights[step] - ideal, 1, first_channels[level], first_channels[level + 1]);
}

std::vector<double> Course::remaining(size_t level) const {
  std::vector<double> shares;
  for (size_t step = 0; step < weights.size(); ++step) {
    const Tensor left = error(step, level);
    shares.push_back(std::sqrt(dot(left, left)));
  }
  for (size_t step = shares.size(); step-- > 0;) shares[step] /= shares[0];
  return shares;
}

Course learn(const Lesson& lesson) {
  const InitRandom random(lesson.seed, DType::kFloat64);
  Student student(lesson.levels, lesson.mode);
  Course course;
  course.first_channels = student.first_channels();
  Tensor target;
  {
    const NoGradGuard no_grad;
    Tensor weight = student.weight();
    const Tensor start = weight.clone();
    course.first_output = output_of(student, lesson.norm_behind);
    weight.add_(change_of(lesson, student));
    course.ideal = student.weights();
    target = output_of(student, lesson.norm_behind);
    weight.copy_(start);
  }
  const double pixels = double(target.numel() / kTaskOutputs);
  const auto optimizer = make_optimizer(optimizer_parameters(student), lesson.optimizer);
  course.weights.push_back(student.weights());
  for (int64_t step = 0; step < lesson.steps; ++step) {
    student.zero_grad();
    (sum(square(output_of(student, lesson.norm_behind) - target)) * (0.5 / pixels)).backward();
    optimizer->step(lesson.optimizer.lr);
    course.weights.push_back(student.weights());
  }
  return course;
}

}  // namespace eq
