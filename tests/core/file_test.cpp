#include "core/file.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>

#include "core/errors.h"
#include "support.h"

using namespace eq;
namespace fs = std::filesystem;
using Catch::Contains;
using test::TemporaryFolder;

namespace {

size_t entries_in(const fs::path& folder) {
  return size_t(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// Fails one operation while alive.
struct Failing {
  Failing(const std::string& operation, const fs::path& on, int error) {
    set_file_failure_hook(
        [=](const char* called, const fs::path& path) { return called == operation && path == on ? error : 0; });
  }
  ~Failing() { set_file_failure_hook(nullptr); }
};

}  // namespace

TEST_CASE("files are read whole and written whole", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "a.bin";
  std::string bytes;
  for (int i = 0; i < 100000; ++i) bytes += char(i * 7);
  write_text_atomically(path, bytes);
  CHECK(read_text(path, bytes.size()) == bytes);
  const std::vector<uint8_t> read = read_file(path, bytes.size());
  CHECK(std::equal(read.begin(), read.end(), reinterpret_cast<const uint8_t*>(bytes.data())));
  write_file_atomically(path, std::vector<uint8_t>{1, 2, 3});
  CHECK(read_file(path, 3) == std::vector<uint8_t>{1, 2, 3});
  write_text_atomically(path, "");
  CHECK(read_text(path, 0).empty());
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("what is not a readable file is an IoError that names it, at once", "[file]") {
  TemporaryFolder folder;
  const fs::path missing = folder.path() / "missing.txt", pipe = folder.path() / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(read_text(missing, 10), IoError);
  CHECK_THROWS_WITH(read_text(missing, 10), Contains("missing.txt") && Contains("No such file"));
  CHECK_THROWS_AS(read_text(folder.path(), 10), IoError);
  CHECK_THROWS_WITH(read_text(folder.path(), 10), Contains("folder"));
  CHECK_THROWS_AS(read_text(pipe, 10), IoError);
  CHECK_THROWS_WITH(read_text(pipe, 10), Contains("a pipe") && Contains(pipe.string()));
  CHECK_THROWS_WITH(read_text("/dev/zero", 10), Contains("a device"));
  test::write_file(folder.path() / "large", "12345");
  CHECK_THROWS_AS(read_text(folder.path() / "large", 4), DataError);
  CHECK_THROWS_WITH(read_text(folder.path() / "large", 4),
                    Contains("5 bytes") && Contains("at most 4") && Contains("large"));
  // A sparse file of a terabyte is refused by its size, without reading it.
  REQUIRE(::truncate((folder.path() / "large").c_str(), off_t{1} << 40) == 0);
  CHECK_THROWS_AS(read_file(folder.path() / "large", 1 << 20), DataError);
}

TEST_CASE("a writer that is not committed leaves nothing", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "out.txt";
  {
    FileWriter writer(path);
    writer.write("half");
    CHECK_FALSE(fs::exists(path));
    CHECK(entries_in(folder.path()) == 1);  // the temporary file
  }
  CHECK(entries_in(folder.path()) == 0);
  FileWriter writer(path);
  writer.write("who");
  writer.write(std::string("le"));
  writer.commit();
  CHECK(test::read_file(path) == "whole");
  CHECK_THROWS_AS(writer.write("more"), UsageError);
  CHECK_THROWS_AS(writer.commit(), UsageError);
}

TEST_CASE("a failure of write, fsync or rename keeps the old file and no temporary", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "state.json";
  write_text_atomically(path, "old");
  const std::string operation = GENERATE("write", "fsync", "rename");
  const int error = GENERATE(ENOSPC, EIO);
  {
    Failing failing(operation, path, error);
    CHECK_THROWS_AS(write_text_atomically(path, "new"), IoError);
    CHECK_THROWS_WITH(write_text_atomically(path, "new"), Contains("state.json") && Contains(strerror(error)));
  }
  CHECK(test::read_file(path) == "old");
  CHECK(entries_in(folder.path()) == 1);
  write_text_atomically(path, "new");
  CHECK(test::read_file(path) == "new");
}

TEST_CASE("a folder that cannot be synced is an error too, unless it never can be", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  {
    Failing failing("fsync", folder.path(), EIO);
    CHECK_THROWS_WITH(write_text_atomically(path, "x"), Contains(folder.path().string()));
  }
  Failing failing("fsync", folder.path(), EINVAL);
  write_text_atomically(path, "y");
  CHECK(test::read_file(path) == "y");
}

TEST_CASE("a real limit on the file size is reported and leaves the old file", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "a.bin";
  write_text_atomically(path, "old");
  struct rlimit before;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = before;
  small.rlim_cur = 4096;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  try {
    write_text_atomically(path, std::string(10000, 'x'));
  } catch (const IoError& error) {
    message = error.what();
  }
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Contains("a.bin") && Contains("ulimit -f"));
  CHECK(test::read_file(path) == "old");
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("a full disk is reported and leaves the old file", "[file]") {
  TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
    WARN("SKIPPED: a small file system cannot be mounted here");
    return;
  }
  struct Unmount {
    fs::path path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } unmount{folder.path()};
  const fs::path path = folder.path() / "checkpoint";
  write_text_atomically(path, "old");
  CHECK_THROWS_AS(write_text_atomically(path, std::string(1 << 20, 'x')), IoError);
  CHECK_THROWS_WITH(write_text_atomically(path, std::string(1 << 20, 'x')),
                    Contains("No space left") && Contains("checkpoint"));
  CHECK(test::read_file(path) == "old");
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("a writer refuses targets that a rename would destroy", "[file]") {
  TemporaryFolder folder;
  const fs::path pipe = folder.path() / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(write_text_atomically(pipe, "x"), Contains("a pipe"));
  CHECK_THROWS_WITH(write_text_atomically("/dev/null", "x"), Contains("a device"));
  CHECK_THROWS_AS(write_text_atomically(folder.path(), "x"), IoError);
  CHECK_THROWS_AS(write_text_atomically(folder.path() / "", "x"), IoError);
  CHECK_THROWS_WITH(write_text_atomically(folder.path() / "none" / "x", "x"), Contains("none") && Contains("folder"));
  CHECK_THROWS_AS(write_text_atomically(folder.path() / std::string(300, 'n'), "x"), IoError);
  CHECK(entries_in(folder.path()) == 1);
  write_text_atomically(folder.path() / std::string(255, 'n'), "x");  // the longest name still has a temporary
  CHECK(entries_in(folder.path()) == 2);
}

TEST_CASE("replacing keeps permissions and symbolic links", "[file]") {
  TemporaryFolder folder;
  const fs::path target = folder.path() / "target", link = folder.path() / "link";
  test::write_file(target, "old");
  fs::permissions(target, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("target", link);
  write_text_atomically(link, "new");
  CHECK(fs::is_symlink(link));
  CHECK(test::read_file(target) == "new");
  CHECK(fs::status(target).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("writers of one file in several threads do not meet", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "shared";
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) write_text_atomically(path, std::string(5000, char('a' + t)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = test::read_file(path);
  CHECK(text == std::string(5000, text[0]));
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("append_line adds whole lines", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "log.txt";
  append_line(path, "one");
  append_line(path, "");
  append_line(path, "two");
  CHECK(test::read_file(path) == "one\n\ntwo\n");
  test::write_file(path, "one\nhal");  // as a killed run leaves it
  append_line(path, "two");
  CHECK(test::read_file(path) == "one\nhal\ntwo\n");
  CHECK_THROWS_AS(append_line(folder.path(), "x"), IoError);
  CHECK_THROWS_AS(append_line("/dev/full", "x"), IoError);
  Failing failing("write", path, ENOSPC);
  CHECK_THROWS_WITH(append_line(path, "x"), Contains("log.txt"));
}

TEST_CASE("append_bytes adds them as they are", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "records";
  append_bytes(path, std::string_view("a\0b", 3));
  append_bytes(path, "");
  append_bytes(path, "\n");
  append_bytes(path, "c");
  CHECK(test::read_file(path) == std::string("a\0b\nc", 5));
  CHECK_THROWS_AS(append_bytes(folder.path(), "x"), IoError);
  CHECK_THROWS_AS(append_bytes("/dev/full", "x"), IoError);
  Failing failing("write", path, ENOSPC);
  CHECK_THROWS_WITH(append_bytes(path, "x"), Contains("records"));
}

TEST_CASE("make_folder makes parents and says what is in the way", "[file]") {
  TemporaryFolder folder;
  make_folder(folder.path() / "a" / "b");
  CHECK(fs::is_directory(folder.path() / "a" / "b"));
  make_folder(folder.path() / "a");
  test::write_file(folder.path() / "file", "x");
  CHECK_THROWS_AS(make_folder(folder.path() / "file"), IoError);
  CHECK_THROWS_WITH(make_folder(folder.path() / "file" / "c"), Contains("file"));
}

TEST_CASE("a writer that has failed cannot put half a file in its place", "[file]") {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "state.json";
  FileWriter writer(path);
  writer.write("ha");
  {
    Failing failing("write", path, ENOSPC);
    CHECK_THROWS_AS(writer.write("l"), IoError);
  }
  CHECK_THROWS_AS(writer.write("f"), UsageError);
  CHECK_THROWS_AS(writer.commit(), UsageError);
  CHECK(entries_in(folder.path()) == 0);
}

TEST_CASE("a writer does not replace a link that leads nowhere but to itself, nor a file without a name", "[file]") {
  TemporaryFolder folder;
  const fs::path loop = folder.path() / "loop";
  fs::create_symlink("loop", loop);
  CHECK_THROWS_WITH(write_text_atomically(loop, "x"), Contains("cannot be written") && Contains(loop.string()));
  CHECK(fs::is_symlink(fs::symlink_status(loop)));
  CHECK_THROWS_WITH(write_text_atomically("", "x"), Contains("names no file"));
}
