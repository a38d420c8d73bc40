#pragma once
// The files that torch.save writes (.pth, .pt, .bin), read without Python. Two containers: a zip archive (PyTorch 1.6 and later), in which
// data.pkl is the object and data/<key> the bytes of each storage; before that, five pickles (a magic number, a protocol, facts on the
// system, the object, the keys of the storages), and behind them each storage: its length, its bytes. Nothing in the object is ever run
// (core/pickle.h); of it, the state dict is taken (core/torch_state.h). Tensors that are views, of a storage that they share or with other
// strides, become contiguous ones of their own.

#include <span>

#include "core/file.h"
#include "core/weights_file.h"

namespace eq {

// Whether a file that begins so (16 bytes) is a zip archive or a pickle: no other file of weights is.
bool is_torch_file(std::span<const uint8_t> beginning);

// Types as in safetensors (core/safetensors.h). The metadata says what was taken and what was not: "taken from" (keys, where it is not the
// top) and "left out". Throws DataError naming the file, the tensor and what is wrong, before anything is allocated that the file is too
// small for (limits::kTorchGrowth); whatever the reading of the source throws.
WeightsFile read_torch_file(const RandomAccess& source);

}  // namespace eq
