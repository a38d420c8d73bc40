#include "core/sha256.h"

#include "support.h"

using namespace eq;

namespace {

std::string hex_of(const std::string& text) { return sha256_hex(text.data(), text.size()); }

}  // namespace

TEST_CASE("sha256 gives the values of FIPS 180-2", "[sha256]") {
  CHECK(hex_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex_of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256 does not depend on how the bytes are cut", "[sha256]") {
  Sha256 sum;
  sum.update("a", 1);
  sum.update("", 0);
  sum.update("bc", 2);
  CHECK(sum.hex() == hex_of("abc"));
  CHECK_THROWS_AS(sum.hex(), UsageError);
  CHECK_THROWS_AS(sum.update("d", 1), UsageError);
}

TEST_CASE("the checksum of a state sees names, types, shapes and values", "[sha256]") {
  const Tensor values = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
  const std::string reference = sha256_hex({{"a", values}, {"b", Tensor::scalar(1)}});
  CHECK(reference == sha256_hex({{"b", Tensor::scalar(1)}, {"a", values.clone()}}));
  CHECK(reference != sha256_hex({{"a", values}, {"c", Tensor::scalar(1)}}));
  CHECK(reference != sha256_hex({{"a", values}}));
  CHECK(reference != sha256_hex({{"a", values.alias({4})}, {"b", Tensor::scalar(1)}}));
  CHECK(reference != sha256_hex({{"a", values.to(DType::kInt32)}, {"b", Tensor::scalar(1)}}));
  Tensor changed = values.clone();
  changed.data<float>()[3] = 5;
  CHECK(reference != sha256_hex({{"a", changed}, {"b", Tensor::scalar(1)}}));
  // A value that moves from one tensor to the next, or a name's end into its value, is a change.
  CHECK(sha256_hex({{"a", Tensor::zeros({1})}, {"b", Tensor::zeros({2})}}) !=
        sha256_hex({{"a", Tensor::zeros({2})}, {"b", Tensor::zeros({1})}}));
}

TEST_CASE("the checksum of a state is over lengths, names, types, extents and values", "[sha256]") {
  // hashlib over the same bytes: recorded checksums stay what they were.
  const std::map<std::string, Tensor> state = {{"weight", Tensor::from<float>({1, 2}, {2, 1})},
                                               {"steps", Tensor::from<int64_t>({300}, {})}};
  CHECK(sha256_hex(state) == "bfc34b9b19050f436c94151d0429e6b24f9c20773d3dca2b91d5078c9dacb739");
}
