#include "core/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "core/errors.h"
#include "core/file.h"
#include "core/file_type.h"
#include "core/json.h"
#include "core/limits.h"

namespace eq {
namespace {

using nlohmann::json;

constexpr uint64_t kLargestExtent = uint64_t{1} << 62;
constexpr const char* kAdvice = "the file is damaged or was not written as safetensors; copy or convert it again";

const char* file_type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "F32";
    case DType::kFloat64: return "F64";
    case DType::kInt32: return "I32";
    case DType::kInt64: return "I64";
    case DType::kUInt8: return "U8";
    case DType::kBFloat16: return "BF16";
    case DType::kBool: break;
  }
  return "BOOL";
}

struct Entry {
  std::string name, type_name;
  std::vector<uint64_t> shape, offsets;
  bool has_type = false, has_shape = false, has_offsets = false;
  const FileType* type = nullptr;
};

[[noreturn]] void refuse(const std::string& file, const std::string& what) { throw DataError(what, file, kAdvice); }

[[noreturn]] void refuse(const std::string& file, const Entry& entry, const std::string& what) {
  refuse(file, "tensor " + quoted_for_message(entry.name) + ": " + what);
}

// Reads the header without building a document, so that its memory is that of the entries it may have.
class HeaderReader : public json::json_sax_t {
 public:
  HeaderReader(std::string file, WeightsFile& result) : file_(std::move(file)), result_(result) {}

  std::vector<Entry>& entries() { return entries_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_float(json::number_float_t, const std::string& text) override {
    return unexpected("the number " + quoted_for_message(text) + " (not a whole number below 2^64)");
  }
  bool binary(json::binary_t&) override { return unexpected("binary data"); }
  bool number_integer(json::number_integer_t value) override {
    return unexpected("the negative number " + std::to_string(value));
  }

  bool number_unsigned(json::number_unsigned_t value) override {
    if (at_ == At::kShape) {
      if (entry().shape.size() == size_t(kMaxRank)) refuse(file_, entry(), "the shape has more than 8 axes");
      entry().shape.push_back(value);
    } else if (at_ == At::kOffsets) {
      if (entry().offsets.size() == 2) refuse(file_, entry(), "data_offsets has more than two numbers");
      entry().offsets.push_back(value);
    } else {
      unexpected("the number " + std::to_string(value));
    }
    return true;
  }

  bool string(std::string& value) override {
    if (at_ == At::kMetadata) {
      result_.metadata[key_] = value;
    } else if (at_ == At::kTensor && key_ == "dtype") {
      entry().type_name = value;
    } else {
      unexpected("the text " + quoted_for_message(value));
    }
    return true;
  }

  bool start_object(size_t) override {
    if (at_ == At::kStart) {
      at_ = At::kTop;
    } else if (at_ == At::kTop && key_ == "__metadata__") {
      at_ = At::kMetadata;
    } else if (at_ == At::kTop) {
      at_ = At::kTensor;
      if (entries_.size() == limits::kSafetensorsTensors) {
        refuse(file_, "the header names more than " + std::to_string(limits::kSafetensorsTensors) + " tensors");
      }
      entries_.emplace_back().name = key_;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(std::string& name) override {
    key_ = name;
    if (at_ == At::kTop) {
      if (!names_.insert(name).second) refuse(file_, "the header names tensor " + quoted_for_message(name) + " twice");
    } else if (at_ == At::kMetadata) {
      if (result_.metadata.count(name) > 0) {
        refuse(file_, "the metadata has the key " + quoted_for_message(name) + " twice");
      }
    } else {
      bool* seen = name == "dtype" ? &entry().has_type : name == "shape" ? &entry().has_shape
                   : name == "data_offsets" ? &entry().has_offsets : nullptr;
      if (seen == nullptr) refuse(file_, entry(), "unknown field " + quoted_for_message(name));
      if (*seen) refuse(file_, entry(), "the field " + quoted_for_message(name) + " occurs twice");
      *seen = true;
    }
    return true;
  }

  bool end_object() override {
    if (at_ == At::kTensor) {
      if (!entry().has_type) refuse(file_, entry(), "the field dtype is missing");
      if (!entry().has_shape) refuse(file_, entry(), "the field shape is missing");
      if (entry().offsets.size() != 2) refuse(file_, entry(), "data_offsets must hold two numbers");
    }
    at_ = At::kTop;  // of the outermost object too: the parser itself allows nothing after it
    return true;
  }

  bool start_array(size_t) override {
    if (at_ == At::kTensor && key_ == "shape") {
      at_ = At::kShape;
    } else if (at_ == At::kTensor && key_ == "data_offsets") {
      at_ = At::kOffsets;
    } else {
      unexpected("a list");
    }
    return true;
  }

  bool end_array() override {
    at_ = At::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception& error) override {
    refuse(file_,
           "the header is not valid JSON at byte " + std::to_string(position) + ": " + json_reason(error.what()));
  }

 private:
  enum class At { kStart, kTop, kMetadata, kTensor, kShape, kOffsets };

  Entry& entry() { return entries_.back(); }

  [[noreturn]] bool unexpected(const std::string& what) {
    switch (at_) {
      case At::kStart:
      case At::kTop:
        refuse(file_, key_.empty() ? "the header is not an object"
                                   : quoted_for_message(key_) + " must be an object, not " + what);
      case At::kMetadata: refuse(file_, "the metadata may hold text only; " + quoted_for_message(key_) + " is " + what);
      case At::kTensor: refuse(file_, entry(), "the field " + key_ + " cannot be " + what);
      case At::kShape: refuse(file_, entry(), "the shape contains " + what);
      case At::kOffsets: break;
    }
    refuse(file_, entry(), "data_offsets contains " + what);
  }

  std::string file_;
  WeightsFile& result_;
  std::vector<Entry> entries_;
  std::set<std::string> names_;
  std::string key_;
  At at_ = At::kStart;
};

void check_type(const std::string& file, Entry& entry) {
  for (const FileType& type : kFileTypes) {
    if (entry.type_name == type.name) entry.type = &type;
  }
  if (entry.type == nullptr) refuse(file, entry, "unknown element type " + quoted_for_message(entry.type_name));
  if (!entry.type->supported) {
    throw DataError(
        "tensor " + quoted_for_message(entry.name) + ": the element type " + entry.type_name + " is not supported",
        file, std::string("convert it to one of ") + kSupportedFileTypes);
  }
}

// Overflow is looked for as if no extent were zero, so that no later product of extents can overflow either.
void check_size(const std::string& file, const Entry& entry) {
  uint64_t product = 1;
  bool empty = false;
  for (uint64_t extent : entry.shape) {
    empty = empty || extent == 0;
    if (extent > kLargestExtent || __builtin_mul_overflow(product, std::max<uint64_t>(extent, 1), &product) ||
        product > kLargestExtent / entry.type->size) {
      refuse(file, entry, "the element count of the shape overflows");
    }
  }
  const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  const uint64_t wanted = empty ? 0 : product * entry.type->size;
  if (begin > end) {
    refuse(file, entry, "data_offsets run backwards: " + std::to_string(begin) + " to " + std::to_string(end));
  }
  if (end - begin != wanted) {
    refuse(file, entry,
           "the shape needs " + std::to_string(wanted) + " bytes, data_offsets give " + std::to_string(end - begin));
  }
}

// In the order of the data: no gap, no overlap, up to the last byte.
void check_coverage(const std::string& file, std::vector<Entry>& entries, uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  uint64_t covered = 0;
  for (const Entry& entry : entries) {
    const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
    if (end > data_bytes) {
      refuse(file, entry,
             "the values end at byte " + std::to_string(end) + " of the data, which has only " +
                 std::to_string(data_bytes) + ": the file is truncated");
    }
    if (begin < covered) {
      refuse(file, entry, "the values overlap those of another tensor at byte " + std::to_string(begin));
    }
    if (begin > covered) {
      refuse(file, entry, "there is a gap of " + std::to_string(begin - covered) + " bytes before the values");
    }
    covered = end;
  }
  if (covered < data_bytes) refuse(file, std::to_string(data_bytes - covered) + " bytes follow the last tensor");
}

using ReadNext = std::function<void(void* data, size_t bytes)>;

WeightsFile read_sequentially(const std::string& file, uint64_t size, const ReadNext& read_next) {
  uint64_t header_bytes = 0;
  if (size < sizeof header_bytes) {
    refuse(file, "the file has " + std::to_string(size) + " bytes; the header length alone takes 8");
  }
  read_next(&header_bytes, sizeof header_bytes);
  if (header_bytes % 65536 == 0x4b50 && header_bytes > limits::kSafetensorsHeader) {  // "PK"
    throw DataError("this is a zip archive, perhaps one of PyTorch's (.pth, .pt), not a safetensors file", file,
                    "weights of PyTorch's can start a backbone: model.backbone.pretrained");
  }
  if (header_bytes > limits::kSafetensorsHeader) {
    const std::pair<std::string, const char*> others[] = {{"\x89PNG", "a PNG picture"},
                                                          {"\xFF\xD8\xFF", "a JPEG picture"},
                                                          {"\x89HDF", "an HDF5 file"},
                                                          {"\x1F\x8B", "a gzip archive"},
                                                          {"{", "a JSON text"}};
    const char* kind = nullptr;
    for (const auto& [first_bytes, what] : others) {
      if (std::memcmp(&header_bytes, first_bytes.data(), first_bytes.size()) == 0) kind = what;
    }
    if ((header_bytes & 0xFF00FF) == 0x120008) kind = "an ONNX model";  // a version in field 1, then text in field 2
    if (kind != nullptr) {
      throw DataError("this is " + std::string(kind) + ", not a file of weights", file,
                      "give a .safetensors file, or one of PyTorch's (.pth)");
    }
    refuse(file, "the header would have " + std::to_string(header_bytes) + " bytes; at most " +
                     std::to_string(limits::kSafetensorsHeader) + " are read");
  }
  if (header_bytes > size - 8) {
    refuse(file, "the header would have " + std::to_string(header_bytes) + " bytes, the file has only " +
                     std::to_string(size - 8) + " after the length: it is truncated");
  }
  std::string header(size_t(header_bytes), ' ');
  read_next(header.data(), header.size());
  if (!header.starts_with('{')) refuse(file, "the header does not begin with {");
  if (header.find('\0') != std::string::npos) refuse(file, "the header contains a NUL byte");

  WeightsFile result;
  HeaderReader reader(file, result);
  json::sax_parse(header.begin(), header.end(), &reader);
  std::vector<Entry>& entries = reader.entries();
  for (Entry& entry : entries) {
    check_type(file, entry);
    check_size(file, entry);
  }
  check_coverage(file, entries, size - 8 - header_bytes);
  for (const Entry& entry : entries) {
    const std::vector<int64_t> extents(entry.shape.begin(), entry.shape.end());
    result.tensors.emplace(entry.name, tensor_from_file(*entry.type, Shape(extents), file, entry.name, read_next));
  }
  return result;
}

std::string json_text(const std::string& text, const char* what) {
  if (!is_utf8(text)) {
    throw UsageError(std::string(what) + " is not UTF-8: " + quoted_for_message(text), "write_safetensors", "use plain text");
  }
  return json(text).dump();
}

}  // namespace

WeightsFile parse_safetensors(std::span<const uint8_t> bytes, const std::string& name) {
  return read_sequentially(name, bytes.size(), [&](void* data, size_t count) {
    if (count > 0) std::memcpy(data, bytes.data(), count);
    bytes = bytes.subspan(count);
  });
}

WeightsFile read_safetensors(const std::filesystem::path& path) {
  FileReader reader(path);
  return read_safetensors(reader);
}

WeightsFile read_safetensors(FileReader& reader) {
  return read_sequentially(reader.path().string(), reader.size(), [&](void* data, size_t count) { reader.read(data, count); });
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  if (tensors.size() > limits::kSafetensorsTensors) {
    throw UsageError(std::to_string(tensors.size()) + " tensors are too many for one file", path.string(),
                     "at most " + std::to_string(limits::kSafetensorsTensors));
  }
  std::vector<std::pair<std::string, Tensor>> ordered;
  for (const auto& [name, tensor] : tensors) {
    if (name == "__metadata__" || !tensor.defined()) {
      throw UsageError(
          "tensor " + quoted_for_message(name) + (tensor.defined() ? " has a reserved name" : " has no value"),
          path.string(), "rename it or leave it out");
    }
    ordered.emplace_back(name, tensor.to(Device::cpu()));
  }
  // Larger elements first: with the data on a 64-byte boundary every tensor is then aligned for its own element type.
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const auto& a, const auto& b) { return size_of(a.second.dtype()) > size_of(b.second.dtype()); });

  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      header += fmt::format("{}{}:{}", header.back() == '{' ? "" : ",", json_text(key, "a metadata key"),
                            json_text(value, "a metadata value"));
    }
    header += "}";
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : ordered) {
    header +=
        fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", header.size() == 1 ? "" : ",",
                    json_text(name, "a tensor's name"), file_type_of(tensor.dtype()),
                    fmt::join(tensor.shape().begin(), tensor.shape().end(), ","), offset, offset + tensor.bytes());
    offset += tensor.bytes();
  }
  header += "}";
  header.resize((8 + header.size() + 63) / 64 * 64 - 8, ' ');
  if (header.size() > limits::kSafetensorsHeader) {
    throw UsageError("the header would have " + std::to_string(header.size()) + " bytes, more than a reader accepts",
                     path.string(), "use fewer tensors, shorter names or less metadata");
  }

  FileWriter writer(path);
  const uint64_t header_bytes = header.size();
  writer.write(&header_bytes, sizeof header_bytes);
  writer.write(header);
  for (const auto& [name, tensor] : ordered) writer.write(tensor.raw_data(), tensor.bytes());
  writer.commit();
}

}  // namespace eq
