#include "training/signals.h"

#include <csignal>
#include <iterator>

namespace eq {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
constexpr int kCount = int(std::size(kSignals));
volatile std::sig_atomic_t received = 0;
struct sigaction before[kCount];
int depth = 0;  // the handlers are those of the outermost one

void on_signal(int signal) {
  if (received != 0 && signal == SIGPIPE) return;  // each line of the log brings one
  if (received != 0) {  // again: as if it had never been caught
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    return;
  }
  received = signal;
}

}  // namespace

StopSignals::StopSignals(bool on) : on_(on) {
  if (depth == 0) received = 0;
  if (!on_ || ++depth > 1) return;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < kCount; ++i) {
    sigaction(kSignals[i], nullptr, &before[i]);
    const bool kept_out = before[i].sa_handler == SIG_IGN && kSignals[i] != SIGINT;  // by nohup; of SIGINT by any shell's &
    if (!kept_out) sigaction(kSignals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  if (!on_ || --depth > 0) return;
  for (int i = 0; i < kCount; ++i) sigaction(kSignals[i], &before[i], nullptr);
}

bool StopSignals::requested() { return received != 0; }
int StopSignals::number() { return received; }

}  // namespace eq
