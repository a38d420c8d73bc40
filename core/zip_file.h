#pragma once
// Zip archives, through libzip: names, sizes and bytes of their entries, which are stored or deflated; zip64 too.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/file.h"

namespace eq {

class ZipFile {
 public:
  struct Entry {
    uint64_t index = 0, size = 0;  // size: of the bytes that come out
  };

  // The bytes of an entry in their order. With the last one its checksum is compared.
  class Stream {
   public:
    ~Stream();
    Stream(Stream&&) noexcept;
    void read(void* data, size_t bytes);  // the next ones, of which there are enough; throws DataError

   private:
    friend class ZipFile;
    struct State;
    explicit Stream(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };

  // Throws DataError for what is no archive, or one with more entries than limits.h allows, a name that occurs twice, or an entry in
  // another form.
  explicit ZipFile(RandomAccess source);
  ~ZipFile();
  ZipFile(const ZipFile&) = delete;

  const std::map<std::string, Entry>& entries() const { return entries_; }
  Stream open(const Entry& entry);  // not used after the archive; throws DataError

 private:
  struct Archive;
  void list_entries();
  std::unique_ptr<Archive> archive_;
  std::map<std::string, Entry> entries_;
};

}  // namespace eq
