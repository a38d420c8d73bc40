#pragma once
// PNG files inside the page.

#include <filesystem>
#include <string>
#include <vector>

#include "datasets/image.h"
#include "study/report/html.h"

namespace eq::report {

std::string base64(const std::vector<uint8_t>& bytes);

// The panels of a picture that side_by_side() made, each an image of its own, so that they stand in a row on a desk and two by two on a
// phone; reduced to at most `largest_width`. A picture that cannot be cut evenly stays whole. Throws IoError, DataError.
Markup panels(const std::filesystem::path& file, const std::vector<std::string>& names, const std::string& what,
              int64_t largest_width = 300);

// Which colour is which class.
Markup class_legend(const std::vector<std::string>& names, const Palette& palette);

}  // namespace eq::report
