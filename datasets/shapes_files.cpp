#include "datasets/shapes_files.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "core/file.h"
#include "core/parallel.h"
#include "datasets/shapes.h"

namespace eq {
namespace fs = std::filesystem;
namespace {

// Names of one length, so that their order is that of the pictures.
std::string numbered(int64_t index, int64_t count) {
  return fmt::format("{:0{}}.png", index, std::max<size_t>(5, std::to_string(count - 1).size()));
}

void write_split(const DataOptions& shapes, uint64_t seed, const std::string& split, int64_t count, const fs::path& images,
                 const fs::path& labels) {
  DataOptions as_they_are = shapes;
  as_they_are.wrong_labels.clear();
  const ShapesDataset pictures(seed, split, shapes.size, count, as_they_are), written(seed, split, shapes.size, count, shapes);
  Palette palette = voc_palette();  // wrong labels name more values than there are classes
  std::copy(written.palette().begin(), written.palette().end(), palette.begin());
  make_folder(images);
  make_folder(labels);
  parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      write_png(images / numbered(i, count), pictures.load(i).image);
      write_indexed_png(labels / numbered(i, count), written.load_file_labels(i), palette);
    }
  });
}

}  // namespace

DataOptions write_shapes(const DataOptions& shapes, uint64_t seed, const fs::path& folder) {
  if (shapes.train_images < 1) {
    throw UsageError("an endless set cannot be written", "data.train_images", "give a number of training pictures");
  }
  std::error_code ignored;
  if (fs::exists(folder, ignored) && !(fs::is_directory(folder, ignored) && fs::is_empty(folder, ignored))) {
    throw UsageError("there is something here already", folder.string(), "give a new folder, or an empty one");
  }
  DataOptions files;
  files.type = "folders";
  files.root = folder.lexically_normal().string();
  files.image_suffix = {".png"};
  const std::pair<const char*, int64_t> splits[] = {{"train", shapes.train_images}, {"val", shapes.val_images}};
  for (const auto& [split, count] : splits) {
    const FolderPair& pair = files.folders[split] = {std::string("images/") + split, std::string("labels/") + split};
    write_split(shapes, seed, split, count, folder / pair.images, folder / pair.labels);
  }
  const ShapesDataset names(seed, "val", shapes.size, shapes.val_images);
  files.classes = names.class_names();
  files.palette = names.palette();
  return files;
}

}  // namespace eq
