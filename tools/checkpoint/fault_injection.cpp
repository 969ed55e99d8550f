// SPDX-License-Identifier: Apache-2.0
#include "tools/checkpoint/fault_injection.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <thread>

#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"
#include "kernels/device/transfer.h"
#include "runtime/state/variable_store.h"
#include "runtime/step/train_step.h"

namespace lockstep {
namespace {

constexpr FaultKind kFaultKinds[] = {FaultKind::kill,     FaultKind::stop,   FaultKind::usr1,
                                     FaultKind::slow,     FaultKind::enospc, FaultKind::eio,
                                     FaultKind::mismatch, FaultKind::flip,   FaultKind::nan};

bool is_of_files(FaultKind kind) { return kind == FaultKind::enospc || kind == FaultKind::eio; }
bool is_of_numbers(FaultKind kind) { return kind == FaultKind::flip || kind == FaultKind::nan; }

[[noreturn]] void refuse(const std::string& text) {
  fail(ErrorCode::usage,
       str("--inject: expected a fault such as kill@step=7,rank=1, stop@step=7, usr1@step=7, "
           "slow@step=7,ms=50, kill@step=7,life=2, kill@operation=12, enospc@operation=12, eio@operation=12, "
           "flip@step=7,rank=1,variable=dense_1/weight,element=3,bit=30 or nan@step=7,rank=1,variable=dense_1/weight, "
           "got '",
           text, "'"));
}

void set(Fault& fault, std::string_view setting, const std::string& text) {
  const size_t sign = setting.find('=');
  if (sign != setting.npos && setting.substr(0, sign) == "variable") {
    fault.variable = setting.substr(sign + 1);
    if (fault.variable.empty()) refuse(text);
    return;
  }
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
  else if (name == "element" && is_of_numbers(fault.kind))
    fault.element = *value;
  else if (name == "bit" && fault.kind == FaultKind::flip)
    fault.bit = *value;
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
    case FaultKind::flip:
    case FaultKind::nan:
      return 0;  // are not of the process or its files
  }
  return 0;
}

const PlannedVariable& variable_of(const Fault& fault, const Plan& plan) {
  if (!fault.variable.empty()) return plan.at(fault.variable);
  const auto first = std::ranges::find_if(plan.variables, [](const auto& v) { return v.in_gradient_sync; });
  check(first != plan.variables.end(), ErrorCode::usage, "--inject: no variable is trained; name one");
  return *first;
}

// Where nothing else is said: the highest bit of a fraction, which changes a number by a third to a half of itself.
int64_t bit_of(const Fault& fault, DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return fault.bit.value_or(6);
    case DType::f16:
      return fault.bit.value_or(9);
    case DType::f32:
      return fault.bit.value_or(22);
    case DType::f64:
      return fault.bit.value_or(51);
    case DType::i32:
    case DType::i64:
      break;
  }
  return fault.bit.value_or(0);
}

void flip_bit(const Fault& fault, VariableStore& variables, Stream& stream) {
  const View view = variables.memory().view(variable_of(fault, variables.plan()));
  const int64_t bit = bit_of(fault, view.dtype);
  auto* const byte = static_cast<unsigned char*>(view.data) + fault.element * size_of(view.dtype) + bit / 8;
  unsigned char value = 0;
  copy(stream, &value, byte, 1);
  stream.synchronize();
  value = static_cast<unsigned char>(value ^ (1u << (bit % 8)));
  copy(stream, byte, &value, 1);
  stream.synchronize();
}

}  // namespace

std::string_view to_string(FaultKind kind) {
  constexpr std::string_view names[] = {"kill", "stop", "usr1", "slow", "enospc", "eio", "mismatch", "flip", "nan"};
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
  if (is_of_numbers(fault.kind) ? !fault.step : !fault.variable.empty()) refuse(text);
  if ((fault.kind == FaultKind::slow) != (fault.milliseconds > 0)) refuse(text);
  return fault;
}

FaultInjection::FaultInjection(std::vector<Fault> faults, int rank, int life)
    : faults_(std::move(faults)), rank_(rank) {
  std::erase_if(faults_, [&](const Fault& fault) { return fault.life != 0 && fault.life != life; });
  std::ranges::copy_if(faults_, std::back_inserter(flips_), [](const Fault& f) { return f.kind == FaultKind::flip; });
  std::erase_if(faults_, [&](const Fault& fault) { return fault.rank != rank || fault.kind == FaultKind::flip; });
}

void FaultInjection::check_numbers(const std::vector<Fault>& faults, const Plan& plan, int ranks, int life) {
  for (const Fault& fault : faults) {
    if (!is_of_numbers(fault.kind) || (fault.life != 0 && fault.life != life)) continue;
    const PlannedVariable& variable = variable_of(fault, plan);
    const auto below = [&](const char* name, int64_t value, int64_t end, const std::string& of) {
      check(value < end, ErrorCode::usage, [&] {
        return str("--inject ", to_string(fault.kind), ": expected ", name, " below ", end, of, ", got ", value);
      });
    };
    below("a rank", fault.rank, ranks, "");
    below("an element", fault.element, variable.local_elements, str(", as ", variable.path, " has them"));
    below("a bit", bit_of(fault, variable.dtype), 8 * size_of(variable.dtype),
          str(", as an element of ", variable.path, " has them"));
    check(fault.kind != FaultKind::nan || variable.in_gradient_sync, ErrorCode::usage,
          [&] { return str("--inject nan: expected a variable that is trained, got ", variable.path); });
    check(fault.kind != FaultKind::flip || variable.section != Section::local, ErrorCode::usage, [&] {
      return str("--inject flip: expected a weight or a slot, got ", variable.path, ", which is ",
                 to_string(variable.role));
    });
  }
}

void FaultInjection::before_step(int64_t step, const Victim& victim) const {
  for (const Fault& fault : flips_) {
    if (fault.step != step) continue;
    // Neighbours may still look at what the step before has left in the copy that they share.
    victim.ranks.barrier();
    if (fault.rank == rank_) flip_bit(fault, victim.variables, victim.stream);
    victim.ranks.barrier();
  }
  for (const Fault& fault : faults_) {
    const bool goes_on = fault.kind == FaultKind::slow && fault.step < step;
    if (!fault.step || (fault.step != step && !goes_on)) continue;
    if (fault.kind == FaultKind::mismatch)
      victim.ranks.log().enter(
          {.kind = CollectiveKind::all_reduce, .dtype = DType::f32, .op = ReduceOp::sum, .root = 0, .bytes = 4});
    else if (fault.kind == FaultKind::nan)
      victim.step.spoil_gradient(variable_of(fault, victim.variables.plan()).path, fault.element);
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
