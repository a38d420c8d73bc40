#pragma once
// What `equiscale inspect` can look into, beside data sets a file each.

#include "app/common.h"

namespace eq::app {

void add_inspect_ckpt(CLI::App& inspect);
void add_inspect_run(CLI::App& inspect);

// Text of a file, for the terminal: quoted and escaped where it could steer it.
std::string printable(const std::string& text);

}  // namespace eq::app
