// Runs the programs in FOLDER.
#include <cstdio>
#include <exception>

#include "programs.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::pair<const char*, void (*)(const std::filesystem::path&)> programs[] = {
      {"first_gradient", first_gradient}, {"train_by_hand", train_by_hand},     {"train_with_own_parts", train_with_own_parts},
      {"fuse_in_a_head", fuse_in_a_head}, {"extend_autograd", extend_autograd}, {"probe_a_site", probe_a_site},
      {"deploy", deploy},                 {"make_mistakes", make_mistakes}};
  int failed = 0;
  for (const auto& [name, program] : programs) {
    try {
      program(std::filesystem::path(argv[1]));
      std::printf("%s: passed\n", name);
    } catch (const std::exception& error) {
      std::printf("%s: FAILED\n%s\n", name, error.what());
      ++failed;
    }
  }
  return failed;
}
