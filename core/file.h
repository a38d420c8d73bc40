#pragma once
// Every read and write of a file goes through here, so that errors are the same everywhere and a crash never leaves
// half a file: a write goes to a temporary file beside the target, is synced with its folder, and is renamed into
// place.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace eq {

// Reads a whole regular file (opened once; folders, pipes and devices are refused). Throws IoError naming the file and
// the system's reason; DataError if it is larger than max_bytes.
std::vector<uint8_t> read_file(const std::filesystem::path& path, size_t max_bytes);
std::string read_text(const std::filesystem::path& path, size_t max_bytes);

// A regular file opened for reading from its start: for files that are looked at before they are read whole.
class FileReader {
 public:
  explicit FileReader(std::filesystem::path path);  // throws IoError: missing, unreadable, a folder, a pipe, a device
  ~FileReader();
  FileReader(const FileReader&) = delete;
  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }
  void require_at_most(uint64_t max_bytes) const;   // throws DataError
  void read(void* data, size_t bytes);              // the next bytes, all of them; throws IoError
  void read_at(uint64_t offset, void* data, size_t bytes) const;  // leaves the next bytes where they are; throws IoError

 private:
  std::filesystem::path path_;
  uint64_t size_ = 0, next_ = 0;
  int fd_ = -1;
};

// Bytes that are read here and there, not in their order: those of a file, or in memory. `read_at` is asked for nothing behind `size`.
struct RandomAccess {
  std::string name;  // for messages
  uint64_t size = 0;
  std::function<void(uint64_t offset, void* data, size_t bytes)> read_at;
};

// An atomic replacement of one file. Nothing is visible under `path` before commit(); without commit() nothing
// remains. The permissions of the file that is replaced are kept; a symbolic link stays one, and its target is
// replaced.
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path);  // throws IoError (also when `path` is a folder, a pipe or a device)
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  void write(const void* data, size_t bytes);       // throws IoError (disk full, ...)
  void write(const std::string& text) { write(text.data(), text.size()); }
  // Flush, fsync, rename, fsync the folder; errors of close count. Throws IoError, and the old file stands. If it is the folder's fsync
  // that fails, the new file stands, but a machine that loses power may come back with the old one.
  void commit();

 private:
  [[noreturn]] void fail(const char* what, int error);
  void abandon();
  void require_open() const;
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
};

void write_file_atomically(const std::filesystem::path& path, std::span<const uint8_t> bytes);
void write_text_atomically(const std::filesystem::path& path, const std::string& text);

// Appends whole lines to a log (created when missing); each line reaches the file before append_line() returns.
// Half a line that a killed run left behind is ended first.
void append_line(const std::filesystem::path& path, const std::string& line);

// Appends a record to a file (created when missing); it reaches the file before append_bytes() returns. A kill may leave a part of it.
void append_bytes(const std::filesystem::path& path, std::string_view bytes);

// Throws IoError now where writing this file later would: for what computes long before it writes. Leaves nothing behind.
void require_writable(const std::filesystem::path& path);

// mkdir -p, with IoError.
void make_folder(const std::filesystem::path& path);

// For tests: called before each write, fsync and rename with its name ("write", "fsync", "rename") and path; returns an
// errno to fail with, or 0.
void set_file_failure_hook(std::function<int(const char* operation, const std::filesystem::path& path)> hook);

}  // namespace eq
