#include "core/torch_state.h"

#include <algorithm>
#include <map>

#include "core/errors.h"
#include "core/json.h"
#include "core/limits.h"

namespace eq {
namespace {

using Kind = PickleValue::Kind;

constexpr const char* kWrappers[] = {"state_dict", "model_state_dict", "model_state", "model", "module"};
constexpr int kMostWrappers = 4;
constexpr const char* kSaveState = "save the state in Python: torch.save(model.state_dict(), NAME)";

[[noreturn]] void refuse_torch(const std::string& file, const std::string& whose, const std::string& what) {
  throw DataError(whose + ": " + what, file, kTorchAdvice);
}

// A call of a function with a tuple of arguments.
struct Call {
  std::string_view function;
  const std::vector<PickleValue*>* arguments = nullptr;
};

bool is_call(const PickleValue& value) {
  return value.is(Kind::kCall) && value.items[0]->is(Kind::kGlobal) && value.items[1]->is(Kind::kTuple);
}

Call call_of(const PickleValue& value) { return {value.items[0]->text, &value.items[1]->items}; }

// The call that makes a tensor of a storage, taken out of those that make a parameter of it or give it attributes; no function: it is
// something else.
Call tensor_call(const PickleValue& value) {
  constexpr int kMostCalls = 4;
  const PickleValue* at = &value;
  for (int i = 0; i < kMostCalls && is_call(*at); ++i) {
    Call call = call_of(*at);
    if (call.function == "torch._tensor._rebuild_from_type_v2" &&
        call.arguments->size() == 4) {  // (function, class, its arguments, attributes)
      const std::vector<PickleValue*>& inner = *call.arguments;
      if (!inner[0]->is(Kind::kGlobal) || !inner[2]->is(Kind::kTuple)) return {};
      call = {inner[0]->text, &inner[2]->items};
    }
    // Of a storage, an offset, a shape and strides; the second one with more behind it, the third with a type, since its storage has none.
    for (const char* own : {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"}) {
      if (call.function == own) return call;
    }
    // Before PyTorch 0.4 the class itself was called.
    const bool wraps = call.function == "torch._utils._rebuild_parameter" ||
                       call.function == "torch._utils._rebuild_parameter_with_state" || call.function == "torch.nn.parameter.Parameter" ||
                       call.function == "torch.autograd.variable.Variable";
    if (!wraps || call.arguments->empty()) return {};
    at = call.arguments->front();
  }
  return {};
}

bool has_tensors(const PickleValue& dict) {
  for (size_t i = 1; i < dict.items.size(); i += 2) {
    if (!tensor_call(*dict.items[i]).function.empty()) return true;
  }
  return false;
}

uint64_t count_of(const PickleValue& value, const char* what, const std::string& file, const std::string& whose) {
  if (!value.is(Kind::kInt)) refuse_torch(file, whose, std::string(what) + " is not an integer");
  if (value.number < 0) refuse_torch(file, whose, std::string(what) + " is negative: " + std::to_string(value.number));
  return uint64_t(value.number);
}

// `each` is what one of them is called.
std::vector<uint64_t> counts_of(const PickleValue& value, const char* each, const std::string& file, const std::string& whose) {
  if (!value.is(Kind::kTuple)) {
    refuse_torch(file, whose, std::string("what should be a tuple with ") + each + " for each axis is something else");
  }
  if (value.items.size() > size_t(kMaxRank)) refuse_torch(file, whose, "it has more than " + std::to_string(kMaxRank) + " axes");
  std::vector<uint64_t> counts;
  for (const PickleValue* item : value.items) counts.push_back(count_of(*item, each, file, whose));
  return counts;
}

// The type that a global names, as torch.FloatStorage or torch.float32.
const FileType* type_named(std::string_view global, const char* FileType::*by) {
  constexpr std::string_view kModule = "torch.";
  if (!global.starts_with(kModule) || global == kModule) return nullptr;
  const auto* found = std::find_if(std::begin(kFileTypes), std::end(kFileTypes),
                                   [&](const FileType& type) { return global.substr(kModule.size()) == type.*by; });
  return found == std::end(kFileTypes) ? nullptr : found;
}

// Overflow is looked for as if no extent were zero, so that no later product of extents can overflow either.
void check_place(const TorchTensor& tensor, const std::vector<uint64_t>& extents, const std::string& file, const std::string& whose) {
  uint64_t product = 1, last = tensor.offset;
  bool empty = false, overflow = false;
  for (size_t axis = 0; axis < extents.size(); ++axis) {
    uint64_t reach = 0;
    empty = empty || extents[axis] == 0;
    overflow = overflow || __builtin_mul_overflow(product, std::max<uint64_t>(extents[axis], 1), &product) || product > (uint64_t{1} << 59);
    if (extents[axis] > 1) {
      overflow =
          overflow || __builtin_mul_overflow(extents[axis] - 1, tensor.strides[axis], &reach) || __builtin_add_overflow(last, reach, &last);
    }
  }
  if (overflow) refuse_torch(file, whose, "the element count of the shape, or its place, overflows");
  if (!empty && last >= tensor.storage.bytes / tensor.type->size) {
    refuse_torch(file, whose, "its last element is number " + std::to_string(last) + " of its storage, which has only " +
                            std::to_string(tensor.storage.bytes / tensor.type->size));
  }
}

TorchTensor tensor_of(const std::string& name, const Call& call, const std::string& file) {
  const std::string whose = "tensor " + quoted_for_message(name);
  const std::vector<PickleValue*>& arguments = *call.arguments;
  const bool has_type = call.function == "torch._utils._rebuild_tensor_v3";
  if (arguments.size() < (has_type ? 7 : 4)) refuse_torch(file, whose, "it is made of too few arguments");
  const TypedStorage typed = torch_storage(*arguments[0], file, whose);
  TorchTensor tensor{.name = name, .type = typed.type, .storage = typed.storage};
  if (has_type) tensor.type = type_named(arguments[6]->text, &FileType::torch);
  if (tensor.type == nullptr || !tensor.type->supported) {
    throw DataError(whose + ": the element type " + (tensor.type != nullptr ? tensor.type->torch : quoted_for_message(arguments[6]->text)) +
                        " is not supported",
                    file, std::string("leave it out of the file, or convert it to one of ") + kSupportedFileTypes);
  }
  tensor.offset = count_of(*arguments[1], "its offset", file, whose);
  const std::vector<uint64_t> extents = counts_of(*arguments[2], "an extent", file, whose);
  tensor.strides = counts_of(*arguments[3], "a stride", file, whose);
  if (tensor.strides.size() != extents.size()) {
    refuse_torch(file, whose,
                 "it has " + std::to_string(extents.size()) + " axes and " + std::to_string(tensor.strides.size()) + " strides");
  }
  check_place(tensor, extents, file, whose);
  tensor.shape = Shape(std::vector<int64_t>(extents.begin(), extents.end()));
  return tensor;
}

std::string object_text(const PickleValue& call) {
  const std::string& maker = call.items[0]->text;  // none: a class that the older format keeps with its source text
  return maker.empty() ? "an object" : "an object made by " + quoted_for_message(maker);
}

// For people: the keys of a mapping with what looks like an object among them, or what stands there instead.
std::string described(const PickleValue& value) {
  constexpr size_t kMost = 12;
  if (value.is(Kind::kCall)) return object_text(value);
  if (!value.is(Kind::kDict)) return "no mapping";
  std::string text = value.items.empty() ? "an empty mapping" : "a mapping of ";
  for (size_t i = 0; i < std::min(value.items.size(), 2 * kMost); i += 2) {
    text += (i == 0 ? "" : ", ") + quoted_for_message(value.items[i]->text);
    if (value.items[i + 1]->is(Kind::kCall)) text += " (" + object_text(*value.items[i + 1]) + ")";
  }
  return value.items.size() > 2 * kMost ? text + ", ..." : text;
}

}  // namespace

TypedStorage torch_storage(const PickleValue& persistent, const std::string& file, const std::string& whose) {
  const PickleValue* id = persistent.is(Kind::kPersistent) ? persistent.items[0] : nullptr;
  // ("storage", torch.FloatStorage, key, device, elements, view): a view is None since PyTorch 0.4, and not there since 1.6.
  if (id == nullptr || !id->is(Kind::kTuple) || id->items.size() < 5 || id->items[0]->text != "storage" || !id->items[2]->is(Kind::kText)) {
    refuse_torch(file, whose, "what should be its storage is something else");
  }
  if (id->items.size() > 5 && !id->items[5]->is(Kind::kNone)) {
    throw DataError(whose + ": its storage is a part of another one, as PyTorch wrote it before version 0.4", file, kSaveState);
  }
  const bool untyped = id->items[1]->text == "torch.storage.UntypedStorage" || id->items[1]->text == "torch.UntypedStorage";
  const FileType* type = untyped ? type_named("torch.uint8", &FileType::torch) : type_named(id->items[1]->text, &FileType::storage);
  if (type == nullptr) refuse_torch(file, whose, "its storage has the unknown type " + quoted_for_message(id->items[1]->text));
  if (id->items[2]->text.size() > limits::kTorchNameBytes) refuse_torch(file, whose, "the key of its storage is too long");
  TypedStorage result{.storage = {.key = id->items[2]->text}, .type = type};
  const uint64_t elements = count_of(*id->items[4], "the size of its storage", file, whose);
  if (__builtin_mul_overflow(elements, type->size, &result.storage.bytes)) refuse_torch(file, whose, "the size of its storage overflows");
  return result;
}

TorchState find_torch_state(const PickleValue& root, const std::string& file) {
  TorchState state;
  const PickleValue* at = &root;
  for (int level = 0; level < kMostWrappers && at->is(Kind::kDict); ++level) {
    const auto* wrapper = std::find_if(std::begin(kWrappers), std::end(kWrappers), [&](const char* key) {
      const PickleValue* inner = at->find(key);
      return inner != nullptr && inner->is(Kind::kDict);
    });
    if (wrapper == std::end(kWrappers)) break;
    for (size_t i = 0; i < at->items.size(); i += 2) {
      if (at->items[i]->text != *wrapper) state.left_out.push_back(at->items[i]->text);
    }
    if (!state.taken_from.empty()) state.taken_from += '.';
    state.taken_from += *wrapper;
    at = at->find(*wrapper);
  }
  if (!at->is(Kind::kDict) || !has_tensors(*at)) {
    throw DataError("there is no state dict, a mapping of names to tensors: " +
                        (state.taken_from.empty() ? "the file holds " : state.taken_from + " is ") + described(*at),
                    file, kSaveState);
  }
  std::map<std::string_view, const PickleValue*> named;
  for (size_t i = 0; i < at->items.size(); i += 2) {
    const std::string& name = at->items[i]->text;
    if (name.size() > limits::kTorchNameBytes) {
      refuse_torch(file, "tensor " + quoted_for_message(name),
                   "its name is longer than " + std::to_string(limits::kTorchNameBytes) + " bytes");
    }
    if (at->items[i]->is(Kind::kText)) named[name] = at->items[i + 1];
  }
  if (named.size() > limits::kTorchTensors) {
    throw DataError(
        "the state dict has " + std::to_string(named.size()) + " names; at most " + std::to_string(limits::kTorchTensors) + " are read",
        file, kSaveState);
  }
  for (const auto& [view, value] : named) {
    const std::string name(view);
    const Call call = tensor_call(*value);
    if (call.function.empty()) {
      state.left_out.push_back(view);
    } else if (!is_utf8(name)) {
      refuse_torch(file, "tensor " + quoted_for_message(name), "its name is not UTF-8");
    } else {
      state.tensors.push_back(tensor_of(name, call, file));
    }
  }
  return state;
}

}  // namespace eq
