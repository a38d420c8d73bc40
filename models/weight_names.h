#pragma once
// The names that other libraries give to the tensors of our backbones, and what their values need beside a new name.

#include <map>
#include <string>

#include "core/tensor.h"

namespace eq {

// Whose names a file of weights has. Ours are mmsegmentation's and mmpretrain's; the original ones are those of the repository that a
// network was published with.
enum class Dialect { kOurs, kTimm, kOriginal, kTorchvision };
std::string owner(Dialect dialect);  // for messages: "timm's"

struct ForeignName {
  std::string name;
  bool merges_patches = false;  // the last axis has the values of 2x2 pixels, in the others' order (unfold_order)
};
// What `dialect` calls the tensor that our state dict has under `name`. What has no name of its own there keeps ours.
ForeignName name_in(Dialect dialect, const std::string& name);

// The dialect under which most names of `state` are in the file; of several, the one under which most shapes fit, then ours.
Dialect recognise(const std::map<std::string, Tensor>& file, const std::map<std::string, Tensor>& state);

// Whether the shapes are the same but for axes of length 1: layer scales [C,1,1] and [C], pointwise weights [4C,C,1,1] and [4C,C].
bool same_values(const Shape& a, const Shape& b);

// The last axis of patch merging, 4 C, from blocks of C for the pixels (row, column) = (0,0), (1,0), (0,1), (1,1), as the other libraries
// have it, to ours, which is torch.nn.Unfold's: channel, row, column.
Tensor unfold_order(const Tensor& values);

}  // namespace eq
