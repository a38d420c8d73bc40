#pragma once
// Networks that were trained elsewhere: a configuration says what they are, a file has their weights, and from then on they are evaluated,
// used, folded and exported as if they had been trained here.

#include <filesystem>
#include <string>

#include "training/config.h"
#include "training/trained_model.h"

namespace eq {

struct ConvertedModel {
  TrainedModel trained;
  std::string left_out;  // of the file, for people: "auxiliary_head.convs.0.conv.weight, ... (8 in all)"; empty: nothing
};

// `weights` is a file of a whole network (core/weights_file.h) under mmsegmentation's names, which are ours. Its batch counters may be
// missing; an auxiliary head that the configuration does not have, and tables that follow from the sizes, are left out. Classes and colours
// are those of the configuration's data set, which must be there unless data.classes names them. Throws IoError, DataError (damaged; not
// finite; does not fit, naming what is missing, of another form or too much) and UsageError (equalizers that the file has no constants
// for).
ConvertedModel convert_weights(Config config, const std::filesystem::path& weights);

}  // namespace eq
