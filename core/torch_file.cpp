#include "core/torch_file.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/errors.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/pickle.h"
#include "core/torch_state.h"
#include "core/words.h"
#include "core/zip_file.h"

namespace eq {
namespace {

using Kind = PickleValue::Kind;

[[noreturn]] void refuse_torch(const std::string& file, const std::string& what) { throw DataError(what, file, kTorchAdvice); }

// Where the bytes of the storages are.
class Storages {
 public:
  virtual ~Storages() = default;
  virtual std::optional<uint64_t> bytes(const std::string& key) = 0;  // none: there is no such storage
  virtual void read(const std::string& key, void* data, size_t bytes) = 0;
};

// Copies a view's elements, of `size` bytes each, in the order of its shape.
void gather(const TorchTensor& tensor, const uint8_t* storage, uint8_t* out) {
  const Shape& shape = tensor.shape;
  const size_t size = tensor.type->size, rank = size_t(shape.rank());
  uint64_t dense = 1;
  bool contiguous = true;
  for (size_t axis = rank; axis-- > 0;) {
    contiguous = contiguous && (shape[int(axis)] == 1 || tensor.strides[axis] == dense);
    dense *= uint64_t(shape[int(axis)]);
  }
  uint64_t from = tensor.offset;
  if (contiguous) {
    std::memcpy(out, storage + from * size, size_t(dense) * size);
    return;
  }
  std::vector<int64_t> index(rank, 0);
  for (uint64_t i = 0; i < dense; ++i, out += size) {
    std::memcpy(out, storage + from * size, size);
    for (size_t axis = rank; axis-- > 0;) {
      from += tensor.strides[axis];
      if (++index[axis] < shape[int(axis)]) break;
      from -= uint64_t(index[axis]) * tensor.strides[axis];
      index[axis] = 0;
    }
  }
}

// What storages and tensors are allocated for, against the size of the file.
class Allowance {
 public:
  explicit Allowance(const RandomAccess& source) : file_(source.name), file_bytes_(source.size) {}
  void take(uint64_t bytes) {
    constexpr uint64_t kSlack = uint64_t{1} << 20;
    if (__builtin_add_overflow(taken_, bytes, &taken_) || taken_ / limits::kTorchGrowth > file_bytes_ + kSlack / limits::kTorchGrowth) {
      refuse_torch(file_, "its tensors would need more than " + std::to_string(limits::kTorchGrowth) + " times the " +
                              std::to_string(file_bytes_) + " bytes of the file");
    }
  }

 private:
  std::string file_;
  uint64_t file_bytes_, taken_ = 0;
};

// Storage by storage, so that one that many tensors share is read once, and one at a time is in memory.
WeightsFile load(const RandomAccess& source, const PickleValue& root, Storages& storages) {
  const TorchState state = find_torch_state(root, source.name);
  std::map<std::string, std::vector<const TorchTensor*>> of_storage;
  Allowance for_tensors(source), for_storages(source);
  for (const TorchTensor& tensor : state.tensors) {
    for_tensors.take(uint64_t(tensor.shape.numel()) * size_of(tensor.type->dtype));
    std::vector<const TorchTensor*>& sharing = of_storage[tensor.storage.key];
    const std::string whose = "tensor " + quoted_for_message(tensor.name) + ": its storage " + quoted_for_message(tensor.storage.key);
    if (sharing.empty()) {
      const std::optional<uint64_t> there = storages.bytes(tensor.storage.key);
      if (!there) refuse_torch(source.name, whose + " is missing");
      if (*there != tensor.storage.bytes) {
        refuse_torch(source.name,
                     whose + " has " + std::to_string(*there) + " bytes; " + std::to_string(tensor.storage.bytes) + " are named");
      }
      for_storages.take(*there);
    } else if (sharing[0]->storage.bytes != tensor.storage.bytes) {
      refuse_torch(source.name, whose + " has two sizes");
    }
    sharing.push_back(&tensor);
  }
  WeightsFile result;
  for (const auto& [key, sharing] : of_storage) {
    const uint64_t bytes = sharing[0]->storage.bytes;
    const Tensor storage = Tensor::empty({int64_t(bytes)}, DType::kUInt8);
    if (bytes > 0) storages.read(key, storage.raw_data(), size_t(bytes));
    for (const TorchTensor* tensor : sharing) {
      result.tensors[tensor->name] =
          tensor_from_file(*tensor->type, tensor->shape, source.name, tensor->name, [&](void* data, size_t wanted) {
            if (wanted > 0) gather(*tensor, storage.data<uint8_t>(), static_cast<uint8_t*>(data));
          });
    }
  }
  if (!state.taken_from.empty()) result.metadata["taken from"] = state.taken_from;
  if (!state.left_out.empty()) {
    std::vector<std::string> first;  // not all: they may be many, long and the same
    for (size_t i = 0; i < std::min(state.left_out.size(), kSomeNames); ++i) {
      first.push_back(quoted_for_message(std::string(state.left_out[i].substr(0, limits::kTorchNameBytes))));
    }
    result.metadata["left out"] = some_of(first, state.left_out.size());
  }
  return result;
}

// --- the zip archive

class ZipStorages : public Storages {
 public:
  ZipStorages(ZipFile& zip, std::string folder) : zip_(zip), folder_(std::move(folder)) {}

  std::optional<uint64_t> bytes(const std::string& key) override {
    const auto found = zip_.entries().find(folder_ + key);
    return found == zip_.entries().end() ? std::nullopt : std::optional(found->second.size);
  }

  void read(const std::string& key, void* data, size_t bytes) override { zip_.open(zip_.entries().at(folder_ + key)).read(data, bytes); }

 private:
  ZipFile& zip_;
  std::string folder_;
};

// "archive/", the folder that everything is in.
std::string folder_in(const ZipFile& zip, const std::string& file) {
  constexpr std::string_view kObject = "/data.pkl";
  for (const auto& [name, entry] : zip.entries()) {
    if (name.ends_with(kObject) && name.find('/') == name.size() - kObject.size()) return name.substr(0, name.find('/') + 1);
  }
  throw DataError("this zip archive is not one of PyTorch's: it has no data.pkl", file,
                  "name a file that torch.save has written, or safetensors");
}

WeightsFile read_zip(const RandomAccess& source) {
  ZipFile zip(source);
  const std::string folder = folder_in(zip, source.name);
  if (const auto order = zip.entries().find(folder + "byteorder"); order != zip.entries().end()) {
    std::string text(size_t(std::min<uint64_t>(order->second.size, 6)), '\0');
    zip.open(order->second).read(text.data(), text.size());
    if (text != "little") {
      throw DataError("its values are in the byte order " + quoted_for_message(text), source.name, "save it on a little-endian machine");
    }
  }
  const ZipFile::Entry object = zip.entries().at(folder + "data.pkl");
  ZipFile::Stream stream = zip.open(object);
  PickleReader pickle(source.name, object.size, [&](void* data, size_t bytes) { stream.read(data, bytes); });
  const PickleValue& root = pickle.next();
  ZipStorages storages(zip, folder + "data/");
  return load(source, root, storages);
}

// --- five pickles and the storages

class LegacyStorages : public Storages {
 public:
  // They lie from `offset` on in the order of `keys`. How large the elements of each are the object's pickle says.
  LegacyStorages(const RandomAccess& source, const PickleReader& pickles, const PickleValue& keys, uint64_t offset) : source_(source) {
    std::map<std::string, size_t> element_bytes;
    for (const PickleValue& value : pickles.values()) {
      const bool is_storage = value.is(Kind::kPersistent) && value.items[0]->is(Kind::kTuple) && !value.items[0]->items.empty() &&
                              value.items[0]->items[0]->text == "storage";
      if (!is_storage) continue;  // the source text of a class
      const TypedStorage typed = torch_storage(value, source.name, "the object");
      element_bytes[typed.storage.key] = typed.type->size;
    }
    for (const PickleValue* key : keys.items) {
      const auto known = element_bytes.find(key->text);
      if (known == element_bytes.end()) refuse_torch(source.name, "no tensor has the storage " + quoted_for_message(key->text));
      uint64_t elements = 0, bytes = 0;
      const std::string whose = "the storage " + quoted_for_message(key->text) + ", from byte " + std::to_string(offset) + " on";
      if (source.size - offset < sizeof elements) refuse_torch(source.name, whose + ", is missing: the file is truncated");
      source.read_at(offset, &elements, sizeof elements);
      offset += sizeof elements;
      if (__builtin_mul_overflow(elements, known->second, &bytes) || bytes > source.size - offset) {
        refuse_torch(source.name,
                     whose + ", would have " + std::to_string(elements) + " elements, more than the file has behind it: it is truncated");
      }
      places_[key->text] = {offset, bytes};
      offset += bytes;
    }
  }

  std::optional<uint64_t> bytes(const std::string& key) override {
    const auto found = places_.find(key);
    return found == places_.end() ? std::nullopt : std::optional(found->second.bytes);
  }

  void read(const std::string& key, void* data, size_t bytes) override { source_.read_at(places_.at(key).offset, data, bytes); }

 private:
  struct Place {
    uint64_t offset, bytes;
  };
  const RandomAccess& source_;
  std::map<std::string, Place> places_;
};

WeightsFile read_legacy(const RandomAccess& source) {
  constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";  // 0x1950a86a20f9469cfc6c
  constexpr int64_t kProtocol = 1001;
  PickleReader pickles(source.name, source.size, [&, at = uint64_t{0}](void* data, size_t bytes) mutable {
    source.read_at(at, data, bytes);
    at += bytes;
  });
  const PickleValue& magic = pickles.next();
  if (!magic.is(Kind::kOther) || magic.text != kMagic) {
    throw DataError("this is a pickle, but none that torch.save has written", source.name,
                    "load it in Python, and save a mapping of names to tensors with torch.save");
  }
  if (const PickleValue& protocol = pickles.next(); protocol.number != kProtocol) {
    refuse_torch(source.name, "its version is " + std::to_string(protocol.number) + "; only " + std::to_string(kProtocol) + " is known");
  }
  const PickleValue& system = pickles.next();
  const PickleValue* little_endian = system.is(Kind::kDict) ? system.find("little_endian") : nullptr;
  if (little_endian == nullptr || !little_endian->is(Kind::kBool)) refuse_torch(source.name, "it does not say its byte order");
  if (little_endian->number == 0) throw DataError("its values are big-endian", source.name, "save it on a little-endian machine");
  const PickleValue& root = pickles.next();
  const PickleValue& keys = pickles.next();
  LegacyStorages storages(source, pickles, keys, pickles.position());
  return load(source, root, storages);
}

}  // namespace

bool is_torch_file(std::span<const uint8_t> beginning) {
  if (beginning.size() < 16) return false;
  const bool zip = beginning[0] == 'P' && beginning[1] == 'K' && beginning[2] == 3 && beginning[3] == 4;
  // 0x80, a protocol: but safetensors whose header is short begin so, too, with { as their ninth byte.
  const bool pickle = beginning[0] == 0x80 && beginning[1] >= 2 && beginning[1] <= 5 && beginning[8] != '{';
  return zip || pickle;
}

WeightsFile read_torch_file(const RandomAccess& source) {
  uint8_t first = 0;
  if (source.size > 0) source.read_at(0, &first, 1);
  return first == 'P' ? read_zip(source) : read_legacy(source);
}

}  // namespace eq
