#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include "core/tensor.h"

namespace eq {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  void update(const void* data, size_t bytes);
  std::string hex();  // ends the computation

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(const void* data, size_t bytes);
// Of names, types, shapes and values, in the order of the names.
std::string sha256_hex(const std::map<std::string, Tensor>& state);

}  // namespace eq
