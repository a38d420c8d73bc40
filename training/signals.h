#pragma once
// SIGINT, SIGTERM, SIGHUP (a closed terminal) and SIGPIPE (a reader that has gone) as a polite request: the first one is remembered, so
// that training can end at a step with a checkpoint; the second one ends the program at once. One within another, a run's within a study's,
// changes nothing: what the outer one has heard still counts.

namespace eq {

class StopSignals {
 public:
  explicit StopSignals(bool on = true);  // off: installs nothing
  ~StopSignals();                        // the handlers that were there before come back
  StopSignals(const StopSignals&) = delete;

  static bool requested();
  static int number();  // of the signal, 0 if none

 private:
  bool on_;
};

}  // namespace eq
