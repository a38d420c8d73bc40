#include "core/sha256.h"

#include <openssl/evp.h>

namespace eq {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  bool ended = false;
  ~State() { EVP_MD_CTX_free(context); }
};

namespace {

void require(bool ok) {
  if (!ok) throw Error("OpenSSL refused to compute a checksum", "Sha256", "check the OpenSSL installation");
}

void update_number(Sha256& sum, uint64_t value) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = uint8_t(value >> (8 * i));
  sum.update(bytes, sizeof bytes);
}

void update_text(Sha256& sum, const std::string& text) {
  update_number(sum, text.size());
  sum.update(text.data(), text.size());
}

}  // namespace

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::update(const void* data, size_t bytes) {
  if (state_->ended) throw UsageError("the checksum was already read", "Sha256::update", "make a new Sha256");
  if (bytes > 0) require(EVP_DigestUpdate(state_->context, data, bytes) == 1);
}

std::string Sha256::hex() {
  if (state_->ended) throw UsageError("the checksum was already read", "Sha256::hex", "keep the text it returned");
  state_->ended = true;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  require(EVP_DigestFinal_ex(state_->context, digest, &length) == 1);
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(const void* data, size_t bytes) {
  Sha256 sum;
  sum.update(data, bytes);
  return sum.hex();
}

std::string sha256_hex(const std::map<std::string, Tensor>& state) {
  // Each part goes in with its length, so that no two different states give the same bytes.
  Sha256 sum;
  for (const auto& [name, tensor] : state) {
    const Tensor values = tensor.to(Device::cpu());
    update_text(sum, name);
    update_text(sum, name_of(values.dtype()));
    update_number(sum, uint64_t(values.rank()));
    for (int64_t extent : values.shape()) update_number(sum, uint64_t(extent));
    sum.update(values.raw_data(), values.bytes());
  }
  return sum.hex();
}

}  // namespace eq
