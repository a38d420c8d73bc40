#include "core/zip_file.h"

#include <zip.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "core/errors.h"
#include "core/json.h"
#include "core/limits.h"

namespace eq {
namespace {

constexpr const char* kZipAdvice = "the file is damaged or not complete: copy or download it again";

[[noreturn]] void refuse_zip(const std::string& file, const std::string& what) { throw DataError(what, file, kZipAdvice); }

}  // namespace

// What libzip reads through. An error of the file's is kept for when libzip has returned: it must not pass through C.
struct ZipFile::Archive {
  // With the text of its message, which libzip makes when it is asked for.
  struct Error : zip_error_t {
    Error() { zip_error_init(this); }
    ~Error() { zip_error_fini(this); }
    Error(const Error&) = delete;
  };

  explicit Archive(RandomAccess from) : source(std::move(from)) {}
  ~Archive() {
    if (zip != nullptr) zip_discard(zip);
  }
  Archive(const Archive&) = delete;

  [[noreturn]] void fail(const std::string& what, zip_error_t* reason) {
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
    refuse_zip(source.name, what + ": " + zip_error_strerror(reason));
  }

  static zip_int64_t callback(void* self, void* data, zip_uint64_t length, zip_source_cmd_t command) {
    return static_cast<Archive*>(self)->answer(data, length, command);
  }

  zip_int64_t answer(void* data, zip_uint64_t length, zip_source_cmd_t command) {
    switch (command) {
      case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_SUPPORTS, ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
                                              ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, -1);
      case ZIP_SOURCE_OPEN: position = 0; return 0;
      case ZIP_SOURCE_CLOSE:
      case ZIP_SOURCE_FREE: return 0;
      case ZIP_SOURCE_READ: return read(data, length);
      case ZIP_SOURCE_STAT: {
        auto* stat = static_cast<zip_stat_t*>(data);
        zip_stat_init(stat);
        stat->size = source.size;
        stat->valid = ZIP_STAT_SIZE;
        return sizeof *stat;
      }
      case ZIP_SOURCE_ERROR: return zip_error_to_data(&error, data, length);
      case ZIP_SOURCE_SEEK: {
        const zip_int64_t target = zip_source_seek_compute_offset(position, source.size, data, length, &error);
        if (target < 0) return -1;
        position = zip_uint64_t(target);
        return 0;
      }
      case ZIP_SOURCE_TELL: return zip_int64_t(position);
      default: zip_error_set(&error, ZIP_ER_OPNOTSUPP, 0); return -1;
    }
  }

  zip_int64_t read(void* data, zip_uint64_t length) {
    const zip_uint64_t bytes = std::min(length, source.size - position);
    try {
      source.read_at(position, data, size_t(bytes));
    } catch (...) {
      failure = std::current_exception();
      zip_error_set(&error, ZIP_ER_READ, 0);
      return -1;
    }
    position += bytes;
    return zip_int64_t(bytes);
  }

  RandomAccess source;
  uint64_t position = 0;  // at most the size
  Error error;
  std::exception_ptr failure;
  zip_t* zip = nullptr;
};

struct ZipFile::Stream::State {
  State(Archive& of, zip_file_t* opened, uint64_t size) : archive(of), file(opened), left(size) {}
  ~State() { zip_fclose(file); }
  State(const State&) = delete;

  Archive& archive;
  zip_file_t* file;
  uint64_t left;
};

ZipFile::Stream::Stream(std::unique_ptr<State> state) : state_(std::move(state)) {}
ZipFile::Stream::Stream(Stream&&) noexcept = default;
ZipFile::Stream::~Stream() = default;

void ZipFile::Stream::read(void* data, size_t bytes) {
  auto* out = static_cast<char*>(data);
  State& state = *state_;
  state.left -= bytes;
  while (bytes > 0) {
    const zip_int64_t got = zip_fread(state.file, out, bytes);
    if (got < 0) state.archive.fail("an entry of the zip archive cannot be read", zip_file_get_error(state.file));
    if (got == 0) refuse_zip(state.archive.source.name, "an entry of the zip archive is shorter than its header says");
    out += got;
    bytes -= size_t(got);
  }
  if (state.left > 0) return;
  char more;
  const zip_int64_t got = zip_fread(state.file, &more, 1);
  if (got < 0) state.archive.fail("an entry of the zip archive is damaged", zip_file_get_error(state.file));
  if (got > 0) refuse_zip(state.archive.source.name, "an entry of the zip archive is longer than its header says");
}

ZipFile::ZipFile(RandomAccess source) : archive_(std::make_unique<Archive>(std::move(source))) {
  Archive& archive = *archive_;
  Archive::Error error;
  zip_source_t* opened = zip_source_function_create(Archive::callback, &archive, &error);
  if (opened != nullptr) {
    archive.zip = zip_open_from_source(opened, ZIP_RDONLY, &error);
    if (archive.zip == nullptr) zip_source_free(opened);
  }
  if (archive.zip == nullptr) archive.fail("the zip archive cannot be opened", &error);
  list_entries();
}

ZipFile::~ZipFile() = default;

void ZipFile::list_entries() {
  const std::string& file = archive_->source.name;
  const zip_int64_t count = zip_get_num_entries(archive_->zip, 0);
  if (uint64_t(count) > limits::kZipEntries) {
    refuse_zip(file,
               "the zip archive has " + std::to_string(count) + " entries; at most " + std::to_string(limits::kZipEntries) + " are read");
  }
  for (zip_uint64_t i = 0; i < zip_uint64_t(count); ++i) {
    zip_stat_t stat;
    if (zip_stat_index(archive_->zip, i, ZIP_FL_ENC_RAW, &stat) != 0) {
      archive_->fail("the zip archive's list of entries is damaged", zip_get_error(archive_->zip));
    }
    constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if ((stat.valid & kNeeded) != kNeeded) refuse_zip(file, "the zip archive's list of entries is damaged");
    const std::string entry = "the zip archive's entry " + quoted_for_message(stat.name);
    if (stat.comp_method != ZIP_CM_STORE && stat.comp_method != ZIP_CM_DEFLATE) {
      refuse_zip(file, entry + " is compressed by a method (" + std::to_string(stat.comp_method) +
                           ") that is not read; stored and deflated ones are");
    }
    if (stat.comp_size > archive_->source.size || (stat.comp_method == ZIP_CM_STORE && stat.size != stat.comp_size)) {
      refuse_zip(file, entry + " says that it has " + std::to_string(stat.size) + " bytes, which it cannot have");
    }
    if (!entries_.emplace(stat.name, Entry{.index = i, .size = stat.size}).second) refuse_zip(file, entry + " occurs twice");
  }
}

ZipFile::Stream ZipFile::open(const Entry& entry) {
  zip_file_t* opened = zip_fopen_index(archive_->zip, entry.index, 0);
  if (opened == nullptr) archive_->fail("an entry of the zip archive cannot be opened", zip_get_error(archive_->zip));
  return Stream(std::make_unique<Stream::State>(*archive_, opened, entry.size));
}

}  // namespace eq
