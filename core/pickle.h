#pragma once
// Python's pickles, read without Python: programs for a stack machine that build values. Here nothing is ever called or imported. A call
// (of a class or a function) stays what was called and with which arguments, and it is the reader's business which of them he understands.

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace eq {

struct PickleValue {
  enum class Kind : uint8_t { kNone, kBool, kInt, kText, kTuple, kList, kDict, kGlobal, kPersistent, kCall, kOther };

  Kind kind = Kind::kOther;           // kOther: a float, bytes, a set, an integer beyond 64 bits
  int64_t number = 0;                 // kBool, kInt
  std::string text;                   // kText; kGlobal: "module.name"; kOther: the integer's bytes, little-endian
  std::vector<PickleValue*>
      items;  // kTuple, kList; kDict (and OrderedDict): key, value, key, value, ...; kPersistent: what the program that wrote
              // the file knows it by; kCall: what is called, its arguments (of any kind: most often a tuple)
  bool is(Kind wanted) const { return kind == wanted; }
  const PickleValue* find(std::string_view key) const;  // in a kDict; nullptr: not there
};

// Values may contain each other in circles, as the memo allows; they are owned by their reader, flat, so nothing recurses to free them.
class PickleReader {
 public:
  // `read` gives the next bytes, of which there are `size`. `file` is for messages.
  PickleReader(std::string file, uint64_t size, std::function<void(void* data, size_t bytes)> read);
  PickleReader(const PickleReader&) = delete;

  // The value of the next pickle; of protocols 2 to 5. Memory is bounded by limits.h, for all pickles together. Throws DataError.
  const PickleValue& next();
  uint64_t position() const { return size_ - left_; }  // behind the last pickle
  const std::deque<PickleValue>& values() const { return values_; }  // of all pickles, in the order of their making

 private:
  using Kind = PickleValue::Kind;

  [[noreturn]] void refuse(const std::string& what) const;
  void count(size_t steps);

  void take(void* data, uint64_t bytes);
  void skip(uint64_t bytes);
  uint64_t take_number(int bytes);  // unsigned, little-endian
  std::string take_text(uint64_t bytes);
  std::string take_line();

  PickleValue* pop();
  std::vector<PickleValue*> pop_to_mark();
  PickleValue& push(Kind kind);
  void push_items(Kind kind, std::vector<PickleValue*> items);
  void push_int(int64_t value);
  void push_tuple(size_t size);
  void push_long(uint64_t bytes);
  void push_decimal();
  void push_global(const std::string& module, const std::string& name);
  void push_call(PickleValue* callable, PickleValue* arguments);

  void add_to_top(Kind kind, const std::vector<PickleValue*>& items);
  void remember(uint64_t index);
  void recall(uint64_t index);
  void step(uint8_t opcode);

  std::string file_;
  uint64_t size_, left_;
  std::function<void(void*, size_t)> read_;
  std::vector<uint8_t> buffer_;
  size_t used_ = 0, filled_ = 0;  // of the buffer
  uint64_t opcode_at_ = 0;
  size_t steps_ = 0;
  std::deque<PickleValue> values_;
  std::vector<PickleValue*> stack_, memo_;
  std::vector<size_t> marks_;
};

}  // namespace eq
