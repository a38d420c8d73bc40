#pragma once
// State that each device has one of, made when it is first asked for: State(Device). Never destroyed: tensors may be static, and at the
// program's end the driver may be gone before us.

#include <map>
#include <memory>
#include <mutex>

#include "core/device.h"

namespace eq::cuda {

template <class State>
State& per_device(Device device) {
  static std::mutex mutex;
  static auto* states = new std::map<int, std::unique_ptr<State>>;
  std::lock_guard lock(mutex);
  std::unique_ptr<State>& state = (*states)[device.index];
  if (!state) state = std::make_unique<State>(device);
  return *state;
}

}  // namespace eq::cuda
