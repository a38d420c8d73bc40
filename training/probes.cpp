#include "training/probes.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/parallel.h"
#include "layers/moments.h"

namespace eq {
namespace {

double norm(const Tensor& values) {
  const Tensor x = host_values(values);
  return std::sqrt(dispatch_floating(x.dtype(), "norm", [&]<typename T>() {
    const T* data = x.data<T>();
    return parallel_reduce(
        x.numel(), 1 << 16, 0.0,
        [&](int64_t begin, int64_t end) {
          double sum = 0;
          for (int64_t i = begin; i < end; ++i) sum += double(data[i]) * double(data[i]);
          return sum;
        },
        std::plus<double>());
  }));
}

// Moments of each channel of each picture of x [N,h,w,C], over channels [begin, end).
std::vector<std::vector<Moments>> picture_moments(const Tensor& x, int64_t begin, int64_t end) {
  std::vector<std::vector<Moments>> moments;
  const int64_t picture = x.shape().product(1, 4);
  for (int64_t n = 0; n < x.size(0); ++n) {
    moments.push_back(channel_moments(x.alias({x.size(1), x.size(2), x.size(3)}, n * picture), begin, end));
  }
  return moments;
}

Moments all_of(const std::vector<std::vector<Moments>>& pictures) {
  Moments total;
  for (const auto& channels : pictures) total.merge(pooled(channels));
  return total;
}

BranchRecord::Scale scale_of(const Moments& moments) { return {moments.mean, moments.standard_deviation()}; }

struct Parts {
  double within = 0, images = 0, channels = 0;
};

// The law of total variance over (picture, channel) groups of equal size.
Parts split(const std::vector<std::vector<Moments>>& pictures) {
  Parts parts;
  const size_t n = pictures.size(), c = pictures.empty() ? 0 : pictures[0].size();
  Moments channel_means;
  for (size_t k = 0; k < c; ++k) {
    Moments image_means;
    for (size_t i = 0; i < n; ++i) {
      parts.within += pictures[i][k].variance() / double(n * c);
      image_means.merge({1, pictures[i][k].mean, 0});
    }
    parts.images += image_means.variance() / double(c);
    channel_means.merge({1, image_means.mean, 0});
  }
  parts.channels = channel_means.variance();
  return parts;
}

struct LagOne {
  double rows = 0, columns = 0;  // of vertical and of horizontal neighbours
};

// Correlation of neighbours about the mean of their channel and picture, over all of them; 0 where there are no neighbours.
LagOne lag_one(const Tensor& features, const std::vector<std::vector<Moments>>& pictures) {
  const Tensor x = host_values(features);
  const int64_t h = x.size(1), w = x.size(2), c = x.size(3);
  struct Sums {
    double rows = 0, columns = 0;
  };
  const Sums products = dispatch_floating(x.dtype(), "lag_one", [&]<typename T>() {
    return parallel_reduce(
        x.size(0) * h, 4, Sums(),
        [&](int64_t begin, int64_t end) {
          Sums sums;
          for (int64_t i = begin; i < end; ++i) {
            const std::vector<Moments>& mean = pictures[size_t(i / h)];
            const T* row = x.data<T>() + i * w * c;
            const bool below = i % h + 1 < h;
            for (int64_t q = 0; q < w; ++q) {
              for (int64_t k = 0; k < c; ++k) {
                const double here = double(row[q * c + k]) - mean[size_t(k)].mean;
                if (q + 1 < w) sums.columns += here * (double(row[(q + 1) * c + k]) - mean[size_t(k)].mean);
                if (below) sums.rows += here * (double(row[(q + w) * c + k]) - mean[size_t(k)].mean);
              }
            }
          }
          return sums;
        },
        [](Sums a, const Sums& b) { return Sums{a.rows + b.rows, a.columns + b.columns}; });
  });
  const double variance = split(pictures).within, groups = double(x.size(0) * c);
  if (!(variance > 0)) return {};
  LagOne lag;
  if (h > 1) lag.rows = std::clamp(products.rows / (groups * double((h - 1) * w)) / variance, -1.0, 1.0);
  if (w > 1) lag.columns = std::clamp(products.columns / (groups * double(h * (w - 1))) / variance, -1.0, 1.0);
  return lag;
}

BranchRecord measure_branch(const LevelSite::Visit& visit, size_t index, const Tensor& resized, const Tensor& fused) {
  const LevelSite::Branch& branch = visit.site.branches()[index];
  const Tensor& x = visit.features[index];
  const int64_t begin = branch.first_channel, end = begin + branch.channels;
  BranchRecord record{
      .name = branch.name, .channels = branch.channels, .height = x.size(1), .width = x.size(2), .upsampled = branch.upsampled};
  const auto before = picture_moments(x, 0, branch.channels), after = picture_moments(resized, begin, end);
  record.before = scale_of(all_of(before));
  record.resized = scale_of(all_of(after));
  record.fused = fused.defined() ? scale_of(pooled(channel_moments(fused, begin, end))) : record.resized;
  const Parts parts = split(after), arriving = split(before);
  record.within_image = parts.within;
  record.between_images = parts.images;
  record.between_channels = parts.channels;
  const LagOne lag = lag_one(x, before);
  record.lag_one = (lag.rows + lag.columns) / 2;
  const auto kept = [&](double rows, double columns) {
    return visit.upsampling().variance_factor(x.size(1), visit.out_h, rows) *
           visit.upsampling().variance_factor(x.size(2), visit.out_w, columns);
  };
  record.white_noise_factor = kept(0, 0);
  const double variance = record.before.std * record.before.std;
  if (!(variance > 0)) return record;
  const double shrink = kept(lag.rows, lag.columns);
  record.predicted_factor = (arriving.images + arriving.channels + arriving.within * shrink) / variance;
  record.measured_factor = record.resized.std * record.resized.std / variance;
  return record;
}

struct SliceNorm {
  double norm = 0, rms = 0;
};

// Over the weights that read input channels [begin, end) of a convolution with weight [O,kh,kw,I/groups].
SliceNorm slice_norm(const Tensor& weight, int64_t groups, int64_t begin, int64_t end) {
  const Tensor values = host_values(weight);
  const int64_t in = values.size(3), taps = values.size(1) * values.size(2), per_group = values.size(0) / groups;
  double squares = 0;
  int64_t count = 0;
  dispatch_floating(values.dtype(), "slice_norm", [&]<typename T>() {
    const T* data = values.data<T>();
    for (int64_t o = 0; o < values.size(0); ++o) {
      const int64_t first = o / per_group * in;  // the input channel of the row's first weight
      const int64_t from = std::clamp<int64_t>(begin - first, 0, in), to = std::clamp<int64_t>(end - first, 0, in);
      for (int64_t t = 0; t < taps; ++t) {
        const T* row = data + (o * taps + t) * in;
        for (int64_t i = from; i < to; ++i) squares += double(row[i]) * double(row[i]);
      }
      count += taps * (to - from);
    }
  });
  return {std::sqrt(squares), count > 0 ? std::sqrt(squares / double(count)) : 0};
}

Tensor difference(const Tensor& a, const Tensor& b) {
  NoGradGuard no_grad;
  Tensor result = a.clone();
  return result.add_(b, -1);
}

[[noreturn]] void out_of_order(const std::string& called, const std::string& missing) {
  throw UsageError("a probe's " + called + " comes behind its " + missing, "Probe", "call its three functions in order, as TrainStep does");
}

}  // namespace

SiteRecord measure_site(const LevelSite::Visit& visit) {
  NoGradGuard no_grad;
  const Conv2d* conv = visit.site.fusion_conv();
  SiteRecord record{.site = visit.site.path(), .kind = visit.site.kind(), .height = visit.out_h, .width = visit.out_w};
  record.depthwise = conv != nullptr && conv->options().groups > 1 && conv->weight().size(3) == 1;
  const Tensor resized = visit.resized(), fused = visit.fused();
  for (size_t b = 0; b < visit.features.size(); ++b) record.branches.push_back(measure_branch(visit, b, resized, fused));
  return record;
}

Probe::Probe(EncoderDecoder& model, int64_t iteration, bool layers)
    : model_(model), layers_(layers), sites_(modules_of<LevelSite>(model)), others_(sites_.size()) {
  record_.iteration = iteration;
}

Probe::~Probe() {
  for (size_t s = 0; s < sites_.size(); ++s) detach(s);
}

void Probe::before_forward(const Batch&) {
  record_.sites.assign(sites_.size(), {});
  input_grads_.resize(sites_.size());
  for (size_t s = 0; s < sites_.size(); ++s) {
    input_grads_[s].assign(sites_[s]->branches().size(), kNotMeasured);
    detach(s);  // it may have been told of a step that failed
    LevelSite::Observer other = sites_[s]->set_observer({});
    if (other.target<Attached>() != nullptr) {
      sites_[s]->set_observer(std::move(other));
      throw UsageError("another probe waits for this site's forward pass", sites_[s]->path(), "attach one at a time to a model");
    }
    others_[s] = std::move(other);
    sites_[s]->set_observer(Attached{this, s});
  }
  before_.clear();
}

// Nothing if somebody else has taken the probe's place meanwhile.
void Probe::detach(size_t site) {
  LevelSite::Observer present = sites_[site]->set_observer({});
  const Attached* attached = present.target<Attached>();
  const bool own = attached != nullptr && attached->probe == this;
  sites_[site]->set_observer(std::move(own ? others_[site] : present));
}

void Probe::visit(size_t site, const LevelSite::Visit& visit) {
  if (others_[site]) others_[site](visit);
  record_.sites[site] = measure_site(visit);
  for (size_t b = 0; b < visit.features.size(); ++b) {
    if (!visit.features[b].requires_grad()) continue;
    register_hook(visit.features[b], [this, site, b](const Tensor& grad) {
      input_grads_[site][b] = norm(grad);
      return Tensor();
    });
  }
  detach(site);  // later passes of this update are not looked at
}

void Probe::after_backward() {
  if (record_.sites.size() != sites_.size()) out_of_order("after_backward()", "before_forward()");
  NoGradGuard no_grad;
  for (size_t s = 0; s < sites_.size(); ++s) {
    SiteRecord& site = record_.sites[s];
    for (size_t b = 0; b < site.branches.size(); ++b) site.branches[b].input_grad = input_grads_[s][b];
    const Conv2d* conv = sites_[s]->fusion_conv();
    if (conv == nullptr || site.branches.empty() || !conv->weight().grad().defined()) continue;
    double total = 0, largest = 0, smallest = std::numeric_limits<double>::infinity();
    for (size_t b = 0; b < site.branches.size(); ++b) {
      const auto& branch = sites_[s]->branches()[b];
      const SliceNorm grad =
          slice_norm(conv->weight().grad(), conv->options().groups, branch.first_channel, branch.first_channel + branch.channels);
      site.branches[b].weight_grad = grad.norm;
      site.branches[b].weight_grad_rms = grad.rms;
      total += grad.norm;
      largest = std::max(largest, grad.rms);
      smallest = std::min(smallest, grad.rms);
    }
    for (BranchRecord& branch : site.branches) branch.weight_grad_share = total > 0 ? branch.weight_grad / total : kNotMeasured;
    site.grad_ratio = smallest > 0 ? largest / smallest : kNotMeasured;
  }
  for (const Module::NamedTensor& parameter : model_.named_parameters()) {
    if (parameter.tensor.rank() > 1) before_[parameter.name] = parameter.tensor.clone();
  }
}

void Probe::after_update() {
  NoGradGuard no_grad;
  for (const Module::NamedTensor& parameter : model_.named_parameters()) {
    if (parameter.tensor.rank() < 2) continue;
    const auto kept = before_.find(parameter.name);
    if (kept == before_.end()) out_of_order("after_update()", "after_backward()");
    const Tensor& before = kept->second;
    const Tensor update = difference(parameter.tensor, before);
    for (size_t s = 0; s < sites_.size(); ++s) {
      const Conv2d* conv = sites_[s]->fusion_conv();
      if (conv == nullptr || !conv->weight().is_same(parameter.tensor)) continue;
      for (size_t b = 0; b < record_.sites[s].branches.size(); ++b) {
        const auto& branch = sites_[s]->branches()[b];
        const int64_t groups = conv->options().groups, begin = branch.first_channel, end = begin + branch.channels;
        const double weight = slice_norm(before, groups, begin, end).norm;
        record_.sites[s].branches[b].update_ratio = weight > 0 ? slice_norm(update, groups, begin, end).norm / weight : kNotMeasured;
      }
    }
    if (!layers_) continue;
    const Tensor grad = parameter.tensor.grad();
    const double weight = norm(before);
    record_.layers.push_back({parameter.name, grad.defined() ? norm(grad) : 0, weight, weight > 0 ? norm(update) / weight : kNotMeasured});
  }
  before_.clear();
}

}  // namespace eq
