// SPDX-License-Identifier: Apache-2.0
#include "tools/checkpoint/fault_injection.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"

namespace lockstep {
namespace {

constexpr FaultKind kFaultKinds[] = {FaultKind::kill,   FaultKind::stop, FaultKind::usr1,    FaultKind::slow,
                                     FaultKind::enospc, FaultKind::eio,  FaultKind::mismatch};

bool is_of_files(FaultKind kind) { return kind == FaultKind::enospc || kind == FaultKind::eio; }

[[noreturn]] void refuse(const std::string& text) {
  fail(ErrorCode::usage,
       str("--inject: expected a fault such as kill@step=7,rank=1, stop@step=7, usr1@step=7, "
           "slow@step=7,ms=50, kill@step=7,life=2, kill@operation=12, enospc@operation=12 or eio@operation=12, got '",
           text, "'"));
}

void set(Fault& fault, std::string_view setting, const std::string& text) {
  const size_t sign = setting.find('=');
  const std::optional<int64_t> value = sign == setting.npos ? std::nullopt : whole_number_in(setting.substr(sign + 1));
  if (!value || *value < 0) refuse(text);
  const std::string_view name = setting.substr(0, sign);
  if (name == "step")
    fault.step = *value;
  else if (name == "rank")
    fault.rank = *value;
  else if (name == "operation")
    fault.operation = *value;
  else if (name == "life")
    fault.life = int32_t(*value);
  else if (name == "ms")
    fault.milliseconds = *value;
  else
    refuse(text);
}

int happen(const Fault& fault) {
  switch (fault.kind) {
    case FaultKind::kill:
      ::raise(SIGKILL);
      return 0;
    case FaultKind::stop:
      ::raise(SIGSTOP);
      return 0;
    case FaultKind::usr1:
      ::raise(SIGUSR1);
      return 0;
    case FaultKind::slow:
      std::this_thread::sleep_for(std::chrono::milliseconds(fault.milliseconds));
      return 0;
    case FaultKind::enospc:
      return ENOSPC;
    case FaultKind::eio:
      return EIO;
    case FaultKind::mismatch:
      return 0;  // is not of the process or its files
  }
  return 0;
}

}  // namespace

std::string_view to_string(FaultKind kind) {
  constexpr std::string_view names[] = {"kill", "stop", "usr1", "slow", "enospc", "eio", "mismatch"};
  return names[size_t(kind)];
}

Fault parse_fault(const std::string& text) {
  const size_t at = text.find('@');
  if (at == text.npos) refuse(text);
  Fault fault;
  fault.kind = parse_choice("--inject", text.substr(0, at), kFaultKinds);
  for (size_t begin = at + 1; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    set(fault, std::string_view(text).substr(begin, end - begin), text);
    begin = end + 1;
  }
  if (fault.step.has_value() == fault.operation.has_value()) refuse(text);
  if (is_of_files(fault.kind) && !fault.operation) refuse(text);
  if (fault.kind == FaultKind::mismatch && !fault.step) refuse(text);
  if ((fault.kind == FaultKind::slow) != (fault.milliseconds > 0)) refuse(text);
  return fault;
}

FaultInjection::FaultInjection(std::vector<Fault> faults, int rank, int life) : faults_(std::move(faults)) {
  std::erase_if(faults_,
                [&](const Fault& fault) { return fault.rank != rank || (fault.life != 0 && fault.life != life); });
}

void FaultInjection::before_step(int64_t step, CallLog& log) const {
  for (const Fault& fault : faults_) {
    const bool goes_on = fault.kind == FaultKind::slow && fault.step < step;
    if (!fault.step || (fault.step != step && !goes_on)) continue;
    if (fault.kind == FaultKind::mismatch)
      log.enter({.kind = CollectiveKind::all_reduce, .dtype = DType::f32, .op = ReduceOp::sum, .root = 0, .bytes = 4});
    else
      happen(fault);
  }
}

FileOperations::Before FaultInjection::before_operation() const {
  std::vector<Fault> faults = faults_;
  std::erase_if(faults, [](const Fault& fault) { return !fault.operation; });
  if (faults.empty()) return {};
  return [faults, count = operations_](std::string_view, const std::string&) {
    const int64_t number = ++*count;
    for (const Fault& fault : faults)
      if (fault.operation == number) return happen(fault);
    return 0;
  };
}

}  // namespace lockstep
