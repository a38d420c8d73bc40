// equiscale: the command. Exit codes: 0 ok, 1 internal error, 2 usage, 3 data, 4 numerical, 5 device or memory, 130 stopped by a signal.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <system_error>

#include "app/common.h"
#include "core/nearest.h"

namespace {

// CLI11 says only that a subcommand is missing; a misspelt one deserves its name.
void check_command(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands({})) known.push_back(command->get_name());
  const std::string word = argc > 1 ? argv[1] : "";
  if (word.empty() || word[0] == '-' || std::find(known.begin(), known.end(), word) != known.end()) return;
  throw eq::UsageError("there is no command '" + word + "'", "equiscale", eq::known_names_hint(word, known));
}

// What is wrong with the command line. CLI11 complains of what is missing before it complains of an option that there is not.
eq::UsageError usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::string words = "equiscale";
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) words += " " + (command = command->get_subcommands()[0])->get_name();
  std::vector<std::string> known;
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (int i = 1; i < argc && argv[i] != std::string("--"); ++i) {  // behind "--" there are no options
    const std::string word = argv[i], name = word.substr(0, word.find('='));
    if (!word.starts_with("--") || std::find(known.begin(), known.end(), name) != known.end()) continue;
    return {"there is no option '" + name + "'", words, eq::known_names_hint(name, known)};
  }
  return {error.what(), words, words + " --help"};
}

// Three lines: what, where, what to try.
int report(const eq::Error& error) {
  std::fprintf(stderr, "%s: %s\n", error.kind(), error.what_happened().c_str());
  if (!error.where().empty()) std::fprintf(stderr, "  where: %s\n", error.where().c_str());
  if (!error.try_this().empty()) std::fprintf(stderr, "  try:   %s\n", error.try_this().c_str());
  return error.exit_code();
}

// Whether what was printed has arrived, as an exit code: a full disk would otherwise go unnoticed.
int check_printed() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  return report(
      eq::IoError(std::string("the output cannot be written: ") + std::strerror(errno), "standard output", "check the disk and the pipe"));
}

// OpenMP's idle threads spin by default, which starves the loader's threads and any other work on the machine: measured on two
// cores beside other work, whole steps took 1.4 to 3 times as long. libgomp reads its policy when it is loaded, so it
// must be in the environment before this process starts.
void let_idle_threads_sleep(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);  // returns only when it failed: then they spin
}

}  // namespace

int main(int argc, char** argv) {
  let_idle_threads_sleep(argv);
  CLI::App app("equiscale: train and study semantic-segmentation networks with scale equalizers.\n"
               "No Python, no PyTorch. Start with: equiscale demo", "equiscale");
  app.set_version_flag("--version", std::string("equiscale ") + EQ_VERSION);
  app.require_subcommand(1);
  app.footer("A command's options and an example: equiscale COMMAND --help");
  eq::app::add_doctor(app);
  eq::app::add_demo(app);
  eq::app::add_train(app);
  eq::app::add_eval(app);
  eq::app::add_predict(app);
  eq::app::add_fold(app);
  eq::app::add_recalibrate_bn(app);
  eq::app::add_convert(app);
  eq::app::add_export(app);
  eq::app::add_inspect(app);
  eq::app::add_data(app);
  eq::app::add_summary(app);
  eq::app::add_report(app);
  eq::app::add_bench(app);
  eq::app::add_study(app);
  try {
    check_command(app, argc, argv);
    std::signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is an error of writing
    app.parse(argc, argv);
    return check_printed();
  } catch (const CLI::RuntimeError& error) {  // a subcommand chose its exit status
    return error.get_exit_code();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return report(usage_error(app, error, argc, argv));
    app.exit(error);  // prints --help, --version
    return check_printed();
  } catch (const eq::Error& error) {
    return report(error);
  } catch (const std::filesystem::filesystem_error& error) {
    return report(eq::IoError("a file or folder cannot be used: " + error.code().message(), error.path1().string(),
                              "check the path and its permissions"));
  } catch (const std::system_error& error) {  // of printing
    return report(eq::IoError("the output cannot be written: " + error.code().message(), "standard output", "check the disk and the pipe"));
  } catch (const std::bad_alloc&) {
    return report(eq::OutOfMemoryError("the machine has no memory left", "outside of tensors", "a smaller batch or fewer loader threads"));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "internal error: %s\n  where: equiscale\n  try:   report this with the command line that caused it\n",
                 error.what());
    return 1;
  }
}
