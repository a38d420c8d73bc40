#include "core/pickle.h"

#include "core/errors.h"
#include "core/limits.h"
#include "support.h"
#include "torch_bytes.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
using Kind = PickleValue::Kind;

namespace {

// A reader of these bytes.
class Pickled {
 public:
  explicit Pickled(std::string bytes)
      : bytes_(std::move(bytes)), reader_("file.pkl", bytes_.size(), [this](void* data, size_t count) {
          std::memcpy(data, bytes_.data() + at_, count);
          at_ += count;
        }) {}
  PickleReader& reader() { return reader_; }
  const PickleValue& next() { return reader_.next(); }

 private:
  std::string bytes_;
  size_t at_ = 0;
  PickleReader reader_;
};

// `program` without the head and the stop.
void check_refused(const std::string& program, const std::string& reason) {
  Pickled pickled(pickle_of(program));
  INFO(reason);
  CHECK_THROWS_WITH(pickled.next(), Contains("the pickle is damaged at byte") && Contains(reason) && Contains("file.pkl"));
}

std::string repeated(const std::string& text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("pickled values are read", "[pickle]") {
  const auto number = [](const std::string& program) {
    Pickled pickled(pickle_of(program));
    const PickleValue& value = pickled.next();
    CHECK(value.is(Kind::kInt));
    return value.number;
  };
  CHECK(number("K\xff") == 255);
  CHECK(number("M\xff\xff") == 65535);
  CHECK(number("J\xfe\xff\xff\xff") == -2);
  CHECK(number("\x8a\0"s) == 0);
  CHECK(number("\x8a\1\xff") == -1);
  CHECK(number("\x8a\3\0\0\x80"s) == -8388608);
  CHECK(number(long_of(-5)) == -5);
  CHECK(number("\x8b\2\0\0\0\1\1"s) == 257);
  CHECK(number("I-12\n") == -12);

  // {"a": (None, True, 1.5, b"x"), "b": [2, 3], "a": "last"}, with a mark, a memo and two kinds of text.
  Pickled pickled(pickle_of("}(X\1\0\0\0a(N\x88G\0\0\0\0\0\0\0\0C\1xtX\1\0\0\0b](K\2K\3eq\5U\1ah\5u"s));
  const PickleValue& dict = pickled.next();
  REQUIRE(dict.is(Kind::kDict));
  REQUIRE(dict.items.size() == 6);
  const PickleValue& tuple = *dict.items[1];
  REQUIRE(tuple.items.size() == 4);
  CHECK(tuple.items[0]->is(Kind::kNone));
  CHECK((tuple.items[1]->is(Kind::kBool) && tuple.items[1]->number == 1));
  CHECK((tuple.items[2]->is(Kind::kOther) && tuple.items[3]->is(Kind::kOther)));
  CHECK(dict.find("b")->items[1]->number == 3);
  CHECK(dict.find("a") == dict.find("b"));  // the last one of a key, and the memo's
  CHECK(dict.find("c") == nullptr);
}

TEST_CASE("pickles follow each other, longer than the reader's buffer", "[pickle]") {
  const std::string text(200000, 'x');
  Pickled pickled(pickle_of(text_of(text)) + pickle_of("B\xff\xff\1\0"s + std::string(0x1ffff, 'y') + "0K\7") + "behind");
  CHECK(pickled.next().text == text);
  CHECK(pickled.next().number == 7);
  CHECK(pickled.reader().position() == 200008 + 0x1ffff + 11);
}

TEST_CASE("calls stay what was called", "[pickle]") {
  // os.system("ls"), with what Python would do to the result: set items, append, build.
  Pickled pickled(pickle_of("cos\nsystem\nX\2\0\0\0ls\x85R(K\1K\2uK\3aNb"s));
  const PickleValue& call = pickled.next();
  REQUIRE(call.is(Kind::kCall));
  CHECK(call.items[0]->text == "os.system");
  CHECK(call.items[1]->items[0]->text == "ls");
  Pickled by_name(pickle_of("\x8c\2os\x8c\6system\x93)}\x92"s));
  CHECK(by_name.next().items[0]->text == "os.system");
  // An OrderedDict as Python 3 makes it, and Python 2.
  Pickled three(pickle_of("ccollections\nOrderedDict\n)RX\1\0\0\0aK\1s}b"s)),
      two(pickle_of("ccollections\nOrderedDict\n]](U\1aK\1ea\x85R"s));
  for (Pickled* ordered : {&three, &two}) {
    const PickleValue& dict = ordered->next();
    REQUIRE(dict.is(Kind::kDict));
    CHECK(dict.find("a")->number == 1);
  }
}

TEST_CASE("values in circles are read and freed", "[pickle]") {
  Pickled list(pickle_of("]q\1h\1a"s));
  const PickleValue& own = list.next();
  CHECK(own.items[0] == &own);
  // A state dict that is its own state dict, and one whose tensor is made of itself.
  for (const std::string& program : {"}q\1X\5\0\0\0modelh\1s"s, "}q\1X\1\0\0\0actorch._utils\n_rebuild_parameter\nh\1\x85Rs"s}) {
    Pickled circle(pickle_of(program));
    CHECK(circle.next().is(Kind::kDict));
  }
  // A chain of 300,000 lists, each in the next one.
  Pickled chain(pickle_of("]" + repeated("q\1\x30]h\1a", 300000)));
  CHECK(chain.next().is(Kind::kList));
}

TEST_CASE("damaged pickles are refused", "[pickle]") {
  check_refused("", "a value is missing");
  check_refused("X\5\0\0\0ab"s, "a text is longer than what is left");
  check_refused("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"s, "a text is longer");
  check_refused("B\xff\xff\xff\xff"s, "it ends in the middle");
  check_refused("\x8e\xff\xff\xff\xff\xff\xff\xff\xff"s, "it ends in the middle");
  check_refused("\x8b\xff\xff\xff\xff"s, "a text is longer");
  check_refused("h\1", "has not remembered");
  check_refused("Nq\5h\4", "has not remembered");
  check_refused("Nr\0\0\0\x7f"s, "remembers more than 1048576");
  check_refused("q\1", "a value is missing");
  check_refused("t", "a mark is missing");
  check_refused("N(\x85"s, "a value is missing");  // not from before the mark
  check_refused("}(Nu", "a key has no value");
  check_refused("(Nd", "a key has no value");
  check_refused("NK\1a", "no container");
  check_refused(")K\1a", "no container");
  check_refused("]K\1K\2s", "no container");
  check_refused("Iabc\n", "\"abc\" is no integer");
  check_refused("i", "there is no opcode 105");
  check_refused("\x80\6", "its protocol is 6");
  check_refused("ccollections\nOrderedDict\n]K\1a\x85R", "no pairs");
  check_refused(text_of(std::string(2000, 'm')) + "\x8c\1n\x93", "a name is too long");
}

TEST_CASE("pickles are bounded in length, steps and depth", "[pickle]") {
  check_refused(std::string(limits::kPickleDepth + 1, '('), "nests deeper than 1000 levels");
  Pickled deep(pickle_of("N" + std::string(limits::kPickleDepth, '(') + std::string(limits::kPickleDepth, 't')));
  CHECK(deep.next().is(Kind::kTuple));
  check_refused(std::string(limits::kPickleSteps, 'N'), "more than 2097152 steps");
  // A list of pairs that is made an OrderedDict again and again: the copies count.
  check_refused("](" + repeated("K\1K\2\x86", 1000) + "e\x85q\1" + repeated("0ccollections\nOrderedDict\nh\1R", 3000),
                "more than 2097152 steps");
  PickleReader endless("file.pkl", ~uint64_t{0}, [](void* data, size_t count) { std::memset(data, 0x8e, count); });
  CHECK_THROWS_WITH(endless.next(), Contains("more than 134217728 bytes"));
}

TEST_CASE("opcodes that few pickles have do what Python does", "[pickle]") {
  const auto value = [](const std::string& program) {
    Pickled pickled(pickle_of(program));
    const PickleValue& top = pickled.next();
    return std::pair(top.kind, top.number);
  };
  CHECK(value("\x89") == std::pair(Kind::kBool, int64_t{0}));
  CHECK(value("I00\n") == std::pair(Kind::kBool, int64_t{0}));
  CHECK(value("I01\n") == std::pair(Kind::kBool, int64_t{1}));
  CHECK(value("I0\n") == std::pair(Kind::kInt, int64_t{0}));
  CHECK(value("K\1K\2"
              "0") == std::pair(Kind::kInt, int64_t{1}));
  CHECK(value("K\1(K\2K\3"
              "1") == std::pair(Kind::kInt, int64_t{1}));
  CHECK(value("K\7r\0\1\0\0"
              "0j\0\1\0\0"s) == std::pair(Kind::kInt, int64_t{7}));  // remembered as number 256
  Pickled twice(
      pickle_of("K\5"
                "2\x86"));
  const PickleValue& pair = twice.next();
  REQUIRE(pair.items.size() == 2);
  CHECK(pair.items[0] == pair.items[1]);
  Pickled text(pickle_of("\x8d\3\0\0\0\0\0\0\0abc"s));
  CHECK(text.next().text == "abc");

  check_refused("h\0"s, "has not remembered");
  check_refused("Nq\0h\1"s, "has not remembered");
  for (const char* number : {"I12x\n", "I99999999999999999999\n", "I\n"}) check_refused(number, "is no integer");
  check_refused("ccollections\nOrderedDict\n]](K\1K\2K\3ea\x85R", "no pairs");
  PickleReader endless("file.pkl", ~uint64_t{0}, [](void* data, size_t count) { std::memset(data, 0x8d, count); });
  CHECK_THROWS_WITH(endless.next(), Contains("a text is longer than what is left"));
}

TEST_CASE("what one pickle leaves behind is nothing to the next", "[pickle]") {
  Pickled marked(pickle_of("NN(K\1") + pickle_of("K\7"));
  CHECK(marked.next().number == 1);
  CHECK(marked.next().number == 7);
  Pickled values(pickle_of("NK\1") + pickle_of(""));
  CHECK(values.next().number == 1);
  CHECK_THROWS_WITH(values.next(), Contains("a value is missing"));
}
