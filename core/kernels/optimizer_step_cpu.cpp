#include "core/kernels/optimizer_step.h"

namespace eq::cpu {
namespace {

constexpr int64_t kGrain = 32768;  // elements of a piece

struct Piece {
  size_t parameter;
  int64_t begin, end;
};

std::vector<Piece> pieces_of(const std::vector<SteppedParameter>& parameters) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const int64_t count = parameters[i].grad.numel();
    for (int64_t begin = 0; begin < count; begin += kGrain) pieces.push_back({i, begin, std::min(begin + kGrain, count)});
  }
  return pieces;
}

// Calls body.operator()<T>(piece, its number), T its type.
template <class Body>
void for_pieces(const std::vector<Piece>& pieces, const std::vector<SteppedParameter>& parameters, const Body& body) {
  parallel_for(int64_t(pieces.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Piece& piece = pieces[size_t(i)];
      dispatch_floating(parameters[piece.parameter].grad.dtype(), "optimizer step",
                        [&]<class T>() { body.template operator()<T>(piece, size_t(i)); });
    }
  });
}

// A momentum that starts at zero has the plain gradient after its first step, as PyTorch's does.
template <class T>
void run(const SgdUpdate<T>& apply, T* __restrict value, const T* __restrict grad, T* __restrict momentum, T*, int64_t count) {
  if (momentum == nullptr) {
    for (int64_t i = 0; i < count; ++i) apply(value[i], grad[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) apply(value[i], grad[i], momentum[i]);
  }
}

template <class T>
void run(const AdamWUpdate<T>& apply, T* __restrict value, const T* __restrict grad, T* __restrict mean, T* __restrict square,
         int64_t count) {
  for (int64_t i = 0; i < count; ++i) apply(value[i], grad[i], mean[i], square[i]);
}

template <class Update>
void step(const std::vector<Update>& updates, const std::vector<SteppedParameter>& parameters) {
  for_pieces(pieces_of(parameters), parameters, [&]<class T>(const Piece& piece, size_t) {
    const SteppedParameter& of = parameters[piece.parameter];
    const auto apply = updates[piece.parameter].template as<T>();
    const int64_t count = piece.end - piece.begin;
    const auto at_piece = [&](const Tensor& tensor) { return tensor.defined() ? tensor.data<T>() + piece.begin : nullptr; };
    T *value = at_piece(of.value), *grad = at_piece(of.grad), *state[] = {at_piece(of.state[0]), at_piece(of.state[1])};
    if (!of.unit.defined()) return run<T>(apply, value, grad, state[0], state[1], count);
    std::vector<T> in_units(value, value + count), grad_in_units(grad, grad + count);
    for_units(of.value.shape(), of.groups, of.unit.data<T>(), piece.begin, piece.end, [&](int64_t first, int64_t length, const T* unit) {
      for (int64_t k = 0, i = first - piece.begin; k < length; ++k, ++i) {
        in_units[size_t(i)] *= unit[k];
        grad_in_units[size_t(i)] /= unit[k];
      }
    });
    run<T>(apply, in_units.data(), grad_in_units.data(), state[0], state[1], count);
    for_units(of.value.shape(), of.groups, of.unit.data<T>(), piece.begin, piece.end, [&](int64_t first, int64_t length, const T* unit) {
      for (int64_t k = 0, i = first - piece.begin; k < length; ++k, ++i) value[i] = in_units[size_t(i)] / unit[k];
    });
  });
}

template <class T>
double sum_of_squares(const T* values, int64_t count) {
  // Four interleaved sums: a fixed order that still lets the compiler overlap the additions.
  double sums[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int64_t j = 0; j < 4; ++j) sums[j] += double(values[i + j]) * double(values[i + j]);
  }
  for (; i < count; ++i) sums[0] += double(values[i]) * double(values[i]);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

void sgd_step(const std::vector<SgdUpdate<double>>& updates, const std::vector<SteppedParameter>& parameters) { step(updates, parameters); }

void adamw_step(const std::vector<AdamWUpdate<double>>& updates, const std::vector<SteppedParameter>& parameters) {
  step(updates, parameters);
}

void average_step(const AverageUpdate<double>& update, const std::vector<SteppedParameter>& averages) {
  for_pieces(pieces_of(averages), averages, [&]<class T>(const Piece& piece, size_t) {
    const AverageUpdate<T> apply = update.as<T>();
    T* __restrict average = averages[piece.parameter].value.template data<T>();
    const T* __restrict value = averages[piece.parameter].grad.template data<T>();
    for (int64_t i = piece.begin; i < piece.end; ++i) apply(average[i], value[i]);
  });
}

void sums_of_squares(const std::vector<SteppedParameter>& parameters, const Tensor& sums) {
  const std::vector<Piece> pieces = pieces_of(parameters);
  std::vector<double> of_pieces(pieces.size());
  for_pieces(pieces, parameters, [&]<class T>(const Piece& piece, size_t number) {
    const SteppedParameter& of = parameters[piece.parameter];
    const T* values = of.grad.data<T>();
    double& sum = of_pieces[number];
    if (!of.unit.defined()) {
      sum = sum_of_squares(values + piece.begin, piece.end - piece.begin);
      return;
    }
    for_units(of.grad.shape(), of.groups, of.unit.data<T>(), piece.begin, piece.end, [&](int64_t at, int64_t length, const T* unit) {
      for (int64_t k = 0; k < length; ++k) sum += double(values[at + k] / unit[k]) * double(values[at + k] / unit[k]);
    });
  });
  double* totals = sums.data<double>();
  std::fill(totals, totals + sums.numel(), 0.0);
  for (size_t i = 0; i < pieces.size(); ++i) totals[pieces[i].parameter] += of_pieces[i];
}

}  // namespace eq::cpu
