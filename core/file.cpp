#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/errors.h"
#include "core/temporary_name.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

using FailureHook = std::function<int(const char*, const fs::path&)>;

FailureHook& failure_hook() {
  static FailureHook hook;
  return hook;
}

int injected_failure(const char* operation, const fs::path& path) {
  return failure_hook() ? failure_hook()(operation, path) : 0;
}

enum class Use { kRead, kWrite };

std::string advice_for(int error, Use use) {
  switch (error) {
    case ENOENT: return use == Use::kRead ? "check the path" : "check the path; a folder that is missing must be made first";
    case EACCES:
    case EPERM: return "check the permissions of the file and its folder";
    case EROFS: return "this file system is read-only; choose another folder";
    case ENOSPC:
    case EDQUOT: return "free some space on this disk, or choose another folder";
    case EFBIG: return "the file system or the process limits the size of a file (ulimit -f)";
    case EMFILE:
    case ENFILE: return "too many files are open (ulimit -n)";
    default: return "check the path and the disk";
  }
}

[[noreturn]] void throw_io(const std::string& what, const fs::path& path, int error, Use use = Use::kWrite) {
  throw IoError(what + ": " + std::strerror(error), path.string(), advice_for(error, use));
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

void require_regular(const struct stat& status, const fs::path& path) {
  if (S_ISREG(status.st_mode)) return;
  throw IoError(std::string("this is ") + kind_of(status.st_mode) + ", not a file", path.string(),
                "give the path of a regular file");
}

// Writes all of it, going on after short writes and signals. Returns 0 or an errno.
int write_all(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = ::write(fd, data, bytes);
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    data += written;
    bytes -= size_t(written);
  }
  return 0;
}

// On Linux a close() that was interrupted has closed the descriptor.
int close_reporting(int fd) { return ::close(fd) == 0 || errno == EINTR ? 0 : errno; }

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// Makes a rename durable. File systems that cannot sync a folder answer EINVAL; there is nothing more to do on them.
void sync_folder(const fs::path& folder) {
  int error = injected_failure("fsync", folder);
  if (error == 0) {
    Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (descriptor.get() < 0 || ::fsync(descriptor.get()) != 0) error = errno;
  }
  if (error != 0 && error != EINVAL) throw_io("the folder cannot be synced after a file was put in it", folder, error);
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

}  // namespace

void set_file_failure_hook(std::function<int(const char*, const fs::path&)> hook) { failure_hook() = std::move(hook); }

FileReader::FileReader(fs::path path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not wait; it has no effect on regular files.
  Descriptor descriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (descriptor.get() < 0) throw_io("the file cannot be opened", path_, errno, Use::kRead);
  struct stat status;
  if (::fstat(descriptor.get(), &status) != 0) throw_io("the file cannot be examined", path_, errno);
  require_regular(status, path_);
  size_ = uint64_t(status.st_size);
  fd_ = descriptor.release();
}

FileReader::~FileReader() { ::close(fd_); }

void FileReader::read(void* data, size_t bytes) {
  read_at(next_, data, bytes);
  next_ += bytes;
}

void FileReader::read_at(uint64_t offset, void* data, size_t bytes) const {
  auto* out = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::pread(fd_, out, bytes, off_t(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      throw_io("the file cannot be read", path_, errno);
    }
    if (got == 0)
      throw IoError("the file became shorter while it was read", path_.string(), "do not change files that are in use");
    out += got;
    offset += uint64_t(got);
    bytes -= size_t(got);
  }
}

std::vector<uint8_t> read_file(const fs::path& path, size_t max_bytes) {
  FileReader reader(path);
  reader.require_at_most(max_bytes);
  std::vector<uint8_t> bytes(size_t(reader.size()));
  reader.read(bytes.data(), bytes.size());
  return bytes;
}

std::string read_text(const fs::path& path, size_t max_bytes) {
  FileReader reader(path);
  reader.require_at_most(max_bytes);
  std::string text(size_t(reader.size()), '\0');
  reader.read(text.data(), text.size());
  return text;
}

void FileReader::require_at_most(uint64_t max_bytes) const {
  if (size_ > max_bytes) {
    throw DataError(
        "the file has " + std::to_string(size_) + " bytes; at most " + std::to_string(max_bytes) + " are read",
        path_.string(), "is it the right file?");
  }
}

FileWriter::FileWriter(fs::path path) : path_(std::move(path)) {
  if (!path_.has_filename()) throw IoError("the path names no file", path_.string(), "add a file name");
  // A link stays a link: what it points to is replaced. Devices and pipes (/dev/null) must never be replaced by a file.
  mode_t mode = 0;
  struct stat status;
  if (::stat(path_.c_str(), &status) == 0) {
    require_regular(status, path_);
    mode = status.st_mode & 07777;
    std::error_code error;
    const fs::path target = fs::canonical(path_, error);
    if (!error) path_ = target;
  } else if (errno != ENOENT) {
    throw_io("the file cannot be written", path_, errno);
  }
  static std::atomic<uint64_t> counter{0};
  for (int error = EEXIST; error == EEXIST;) {
    temporary_ = folder_of(path_) / temporary_name(path_.filename().string(), ::getpid(), counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    error = fd_ < 0 ? errno : 0;
    if (error != 0 && error != EEXIST) {
      temporary_.clear();
      throw_io("a file cannot be made in this folder", folder_of(path_), error);
    }
  }
  if (mode != 0 && ::fchmod(fd_, mode) != 0) fail("the permissions of the old file cannot be kept", errno);
}

FileWriter::~FileWriter() { abandon(); }

void FileWriter::abandon() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void FileWriter::fail(const char* what, int error) {
  abandon();
  throw_io(what, path_, error);
}

void FileWriter::require_open() const {
  if (fd_ < 0)
    throw UsageError("the writer was already committed or has failed", path_.string(), "make a new FileWriter");
}

void FileWriter::write(const void* data, size_t bytes) {
  require_open();
  int error = injected_failure("write", path_);
  if (error == 0) error = write_all(fd_, static_cast<const char*>(data), bytes);
  if (error != 0) fail("the file cannot be written", error);
}

void FileWriter::commit() {
  require_open();
  int error = injected_failure("fsync", path_);
  if (error == 0 && ::fsync(fd_) != 0) error = errno;
  if (error != 0) fail("the file cannot be written to the disk", error);
  error = close_reporting(std::exchange(fd_, -1));
  if (error != 0) fail("the file cannot be closed", error);
  error = injected_failure("rename", path_);
  if (error == 0 && ::rename(temporary_.c_str(), path_.c_str()) != 0) error = errno;
  if (error != 0) fail("the file cannot be put in its place", error);
  temporary_.clear();
  sync_folder(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::span<const uint8_t> bytes) {
  FileWriter writer(path);
  writer.write(bytes.data(), bytes.size());
  writer.commit();
}

void write_text_atomically(const fs::path& path, const std::string& text) {
  write_file_atomically(path, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

namespace {

// Readable too, so that opening a pipe cannot wait and the last byte can be seen.
Descriptor open_to_append(const fs::path& path, struct stat& status) {
  Descriptor descriptor(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666));
  if (descriptor.get() < 0) throw_io("the file cannot be opened", path, errno);
  if (::fstat(descriptor.get(), &status) != 0) throw_io("the file cannot be examined", path, errno);
  require_regular(status, path);
  return descriptor;
}

// Returns 0 or an errno.
int append_and_close(Descriptor descriptor, const fs::path& path, std::string_view bytes) {
  int error = injected_failure("write", path);
  if (error == 0) error = write_all(descriptor.get(), bytes.data(), bytes.size());
  return error == 0 ? close_reporting(descriptor.release()) : error;
}

}  // namespace

void append_bytes(const fs::path& path, std::string_view bytes) {
  struct stat status;
  const int error = append_and_close(open_to_append(path, status), path, bytes);
  if (error != 0) throw_io("the file cannot be written", path, error);
}

void append_line(const fs::path& path, const std::string& line) {
  struct stat status;
  Descriptor descriptor = open_to_append(path, status);
  // A run that was killed in the middle of a line must not spoil the next one.
  char last = '\n';
  if (status.st_size > 0 && ::pread(descriptor.get(), &last, 1, status.st_size - 1) < 0) {
    throw_io("the file cannot be read", path, errno);
  }
  const int error = append_and_close(std::move(descriptor), path, (last == '\n' ? "" : "\n") + line + "\n");
  if (error != 0) throw_io("the line cannot be written", path, error);
}

void require_writable(const fs::path& path) { const FileWriter writer(path); }

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw_io("the folder cannot be made", path, error.value());
}

}  // namespace eq
