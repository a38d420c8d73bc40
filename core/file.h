#pragma once
// Every read and write of a file goes through here, so that errors are the same everywhere and a crash never leaves half
// a file: a write goes to a temporary file beside the target, is synced with its folder, and is renamed into place.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace eq {

// Reads a whole regular file (opened once; folders, pipes and devices are refused). Throws IoError naming the file and the
// system's reason; DataError if it is larger than max_bytes.
std::vector<uint8_t> read_file(const std::filesystem::path& path, size_t max_bytes);
std::string read_text(const std::filesystem::path& path, size_t max_bytes);

// An atomic replacement of one file. Nothing is visible under `path` until commit() returned; without commit() nothing remains.
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path);  // throws IoError
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  void write(const void* data, size_t bytes);       // throws IoError (disk full, ...)
  void write(const std::string& text) { write(text.data(), text.size()); }
  void commit();                                    // flush, fsync, rename, fsync the folder; errors of close count

 private:
  void fail(const char* what);
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
};

void write_file_atomically(const std::filesystem::path& path, std::span<const uint8_t> bytes);
void write_text_atomically(const std::filesystem::path& path, const std::string& text);

// Appends whole lines to a log (created when missing); each line reaches the file before append() returns.
void append_line(const std::filesystem::path& path, const std::string& line);

// mkdir -p, with IoError.
void make_folder(const std::filesystem::path& path);

// For tests: called before each write, fsync and rename with its name ("write", "fsync", "rename") and path; returns an errno
// to fail with, or 0.
void set_file_failure_hook(std::function<int(const char* operation, const std::filesystem::path& path)> hook);

}  // namespace eq
