#pragma once
// Weights for a whole network from a file or another run: as much of it as fits.

#include <filesystem>
#include <string>

#include "models/segmentor.h"

namespace eq {

struct InitialWeights {
  std::string note;         // "took 180/184 of the network's tensors; of another form: decode_head.conv_seg.weight (...), ..."
  bool equalizers = false;  // the network has equalizers with constants, and all of these came with the weights
};

// `from` is a file of weights (core/weights_file.h) under our names, which are mmsegmentation's, or the folder of a finished run. A tensor
// is taken if its name and its form are the network's; all others keep their values. Equalizers are taken whole or not at all: constants of
// some sites only would be measured anew anyway. Throws IoError, DataError (damaged; not finite; less than half of the tensors fit); then
// nothing is changed.
InitialWeights load_initial_weights(EncoderDecoder& network, const std::filesystem::path& from);

}  // namespace eq
