#include "core/pickle.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "core/errors.h"
#include "core/json.h"
#include "core/limits.h"

namespace eq {
namespace {

// The opcodes of protocols 2 to 5 that a pickler writes, under pickletools' names (protocol 2 of Python 2 has two more of its own: INT and
// BINSTRING).
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kBinFloat = 'G',
  kInt = 'I',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
};

constexpr size_t kBuffer = 65536;
constexpr size_t kLongestGlobal = 1000;  // names made of texts that the memo has: each use is a copy

}  // namespace

const PickleValue* PickleValue::find(std::string_view key) const {
  for (size_t i = items.size(); i >= 2; i -= 2) {  // the last one of a key is the one that stays
    if (items[i - 2]->is(Kind::kText) && items[i - 2]->text == key) return items[i - 1];
  }
  return nullptr;
}

PickleReader::PickleReader(std::string file, uint64_t size, std::function<void(void*, size_t)> read)
    : file_(std::move(file)), size_(size), left_(size), read_(std::move(read)), buffer_(kBuffer) {}

void PickleReader::refuse(const std::string& what) const {
  throw DataError("the pickle is damaged at byte " + std::to_string(opcode_at_) + ": " + what, file_,
                  "copy or download the file again; if PyTorch reads it, save there with torch.save(model.state_dict(), NAME)");
}

void PickleReader::count(size_t steps) {
  steps_ += steps;
  if (steps_ > limits::kPickleSteps) refuse("it has more than " + std::to_string(limits::kPickleSteps) + " steps");
}

const PickleValue& PickleReader::next() {
  stack_.clear();
  memo_.clear();
  marks_.clear();
  while (true) {
    opcode_at_ = position();
    count(1);
    const auto opcode = uint8_t(take_number(1));
    if (opcode == kStop) return *pop();
    step(opcode);
  }
}

// --- bytes

void PickleReader::take(void* data, uint64_t bytes) {
  if (bytes > left_) refuse("it ends in the middle");
  left_ -= bytes;
  if (position() > limits::kPickleBytes) refuse("it has more than " + std::to_string(limits::kPickleBytes) + " bytes");
  for (auto* out = static_cast<uint8_t*>(data); bytes > 0;) {
    if (used_ == filled_) {
      filled_ = size_t(std::min<uint64_t>(kBuffer, left_ + bytes));
      used_ = 0;
      read_(buffer_.data(), filled_);
    }
    const size_t piece = size_t(std::min<uint64_t>(bytes, filled_ - used_));
    if (out != nullptr) {
      std::memcpy(out, buffer_.data() + used_, piece);
      out += piece;
    }
    used_ += piece;
    bytes -= piece;
  }
}

void PickleReader::skip(uint64_t bytes) { take(nullptr, bytes); }

uint64_t PickleReader::take_number(int bytes) {
  uint8_t raw[8] = {};
  take(raw, uint64_t(bytes));
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= uint64_t(raw[i]) << 8 * i;
  return value;
}

std::string PickleReader::take_text(uint64_t bytes) {
  if (bytes > std::min(left_, limits::kPickleBytes)) refuse("a text is longer than what is left of it");
  std::string text(size_t(bytes), '\0');
  take(text.data(), bytes);
  return text;
}

std::string PickleReader::take_line() {
  std::string line;
  for (char c = char(take_number(1)); c != '\n'; c = char(take_number(1))) line += c;
  return line;
}

// --- stack

PickleValue* PickleReader::pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) refuse("a value is missing on its stack");
  PickleValue* top = stack_.back();
  stack_.pop_back();
  return top;
}

std::vector<PickleValue*> PickleReader::pop_to_mark() {
  if (marks_.empty()) refuse("a mark is missing on its stack");
  const auto mark = stack_.begin() + std::ptrdiff_t(marks_.back());
  std::vector<PickleValue*> items(mark, stack_.end());
  stack_.erase(mark, stack_.end());
  marks_.pop_back();
  return items;
}

PickleValue& PickleReader::push(Kind kind) {
  PickleValue& value = values_.emplace_back();
  value.kind = kind;
  stack_.push_back(&value);
  return value;
}

void PickleReader::push_items(Kind kind, std::vector<PickleValue*> items) {
  if (kind == Kind::kDict && items.size() % 2 != 0) refuse("a key has no value");
  push(kind).items = std::move(items);
}

void PickleReader::push_int(int64_t value) { push(Kind::kInt).number = value; }

void PickleReader::push_tuple(size_t size) {
  std::vector<PickleValue*> items(size);
  for (size_t i = size; i-- > 0;) items[i] = pop();
  push_items(Kind::kTuple, std::move(items));
}

void PickleReader::push_long(uint64_t bytes) {
  if (bytes > 8) {
    push(Kind::kOther).text = take_text(bytes);
    return;
  }
  uint64_t value = take_number(int(bytes));
  const int unused = 64 - 8 * int(bytes);
  if (unused > 0 && unused < 64) value = uint64_t(int64_t(value << unused) >> unused);  // the sign
  push_int(int64_t(value));
}

// "I42\n"; "I01\n" is true.
void PickleReader::push_decimal() {
  const std::string line = take_line();
  int64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc() || end != line.data() + line.size()) refuse(quoted_for_message(line) + " is no integer");
  PickleValue& pushed = push(line.size() == 2 && line[0] == '0' ? Kind::kBool : Kind::kInt);
  pushed.number = value;
}

void PickleReader::push_global(const std::string& module, const std::string& name) { push(Kind::kGlobal).text = module + "." + name; }

// An OrderedDict is what others are made of, so it is a dict like others. Python 2 gives it its items as an argument: a list of pairs.
void PickleReader::push_call(PickleValue* callable, PickleValue* arguments) {
  if (!callable->is(Kind::kGlobal) || callable->text != "collections.OrderedDict") {
    push_items(Kind::kCall, {callable, arguments});
    return;
  }
  PickleValue& dict = push(Kind::kDict);
  if (arguments->items.empty()) return;
  for (const PickleValue* pair : arguments->items[0]->items) {
    count(1);
    if (pair->items.size() != 2) refuse("an OrderedDict is made of what are no pairs");
    dict.items.insert(dict.items.end(), pair->items.begin(), pair->items.end());
  }
}

// What is added to objects that are only calls here is passed over.
void PickleReader::add_to_top(Kind kind, const std::vector<PickleValue*>& items) {
  PickleValue* target = pop();
  stack_.push_back(target);
  if (target->is(Kind::kCall) || target->is(Kind::kOther)) return;
  if (!target->is(kind)) refuse("an item is added to what is no container");
  if (kind == Kind::kDict && items.size() % 2 != 0) refuse("a key has no value");
  target->items.insert(target->items.end(), items.begin(), items.end());
}

void PickleReader::remember(uint64_t index) {
  if (index >= limits::kPickleMemo) refuse("it remembers more than " + std::to_string(limits::kPickleMemo) + " values");
  if (index >= memo_.size()) memo_.resize(size_t(index) + 1);
  memo_[size_t(index)] = pop();
  stack_.push_back(memo_[size_t(index)]);
}

void PickleReader::recall(uint64_t index) {
  if (index >= memo_.size() || memo_[size_t(index)] == nullptr) refuse("it wants a value that it has not remembered");
  stack_.push_back(memo_[size_t(index)]);
}

void PickleReader::step(uint8_t opcode) {
  switch (opcode) {
    case kProto:
      if (const uint64_t protocol = take_number(1); protocol > 5) {
        refuse("its protocol is " + std::to_string(protocol) + ", and 2 to 5 are known");
      }
      return;
    case kFrame: return skip(8);

    case kNone: push(Kind::kNone); return;
    case kNewTrue:
    case kNewFalse: push(Kind::kBool).number = opcode == kNewTrue; return;
    case kInt: return push_decimal();
    case kBinInt: return push_int(int32_t(take_number(4)));
    case kBinInt1: return push_int(int64_t(take_number(1)));
    case kBinInt2: return push_int(int64_t(take_number(2)));
    case kLong1: return push_long(take_number(1));
    case kLong4: return push_long(take_number(4));
    case kBinFloat: skip(8); push(Kind::kOther); return;
    case kShortBinString:
    case kShortBinUnicode: push(Kind::kText).text = take_text(take_number(1)); return;
    case kBinString:
    case kBinUnicode: push(Kind::kText).text = take_text(take_number(4)); return;
    case kBinUnicode8: push(Kind::kText).text = take_text(take_number(8)); return;
    case kShortBinBytes: skip(take_number(1)); push(Kind::kOther); return;
    case kBinBytes: skip(take_number(4)); push(Kind::kOther); return;
    case kBinBytes8:
    case kByteArray8: skip(take_number(8)); push(Kind::kOther); return;

    case kMark:
      if (marks_.size() == limits::kPickleDepth) refuse("it nests deeper than " + std::to_string(limits::kPickleDepth) + " levels");
      marks_.push_back(stack_.size());
      return;
    case kPop: pop(); return;
    case kPopMark: pop_to_mark(); return;
    case kDup: stack_.push_back(pop()); stack_.push_back(stack_.back()); return;
    case kBinPut: return remember(take_number(1));
    case kLongBinPut: return remember(take_number(4));
    case kMemoize: return remember(memo_.size());
    case kBinGet: return recall(take_number(1));
    case kLongBinGet: return recall(take_number(4));

    case kEmptyTuple: return push_tuple(0);
    case kTuple1: return push_tuple(1);
    case kTuple2: return push_tuple(2);
    case kTuple3: return push_tuple(3);
    case kTuple: return push_items(Kind::kTuple, pop_to_mark());
    case kEmptyList: push(Kind::kList); return;
    case kList: return push_items(Kind::kList, pop_to_mark());
    case kEmptyDict: push(Kind::kDict); return;
    case kDict: return push_items(Kind::kDict, pop_to_mark());
    case kEmptySet: push(Kind::kOther); return;
    case kFrozenSet: pop_to_mark(); push(Kind::kOther); return;
    case kAppend: return add_to_top(Kind::kList, {pop()});
    case kAppends: return add_to_top(Kind::kList, pop_to_mark());
    case kAddItems: return add_to_top(Kind::kOther, pop_to_mark());
    case kSetItem: {
      PickleValue* value = pop();
      return add_to_top(Kind::kDict, {pop(), value});
    }
    case kSetItems: return add_to_top(Kind::kDict, pop_to_mark());

    case kGlobal: {
      const std::string module = take_line();
      return push_global(module, take_line());
    }
    case kStackGlobal: {
      const PickleValue *name = pop(), *module = pop();
      if (name->text.size() + module->text.size() > kLongestGlobal) refuse("a name is too long");
      return push_global(module->text, name->text);
    }
    case kReduce:
    case kNewObj: {
      PickleValue* arguments = pop();
      return push_call(pop(), arguments);
    }
    case kNewObjEx: {
      pop();  // arguments by name
      PickleValue* arguments = pop();
      return push_call(pop(), arguments);
    }
    case kBuild: pop(); return;  // what an object sets within itself
    case kBinPersId: return push_items(Kind::kPersistent, {pop()});
    default: refuse("there is no opcode " + std::to_string(int(opcode)));
  }
}

}  // namespace eq
