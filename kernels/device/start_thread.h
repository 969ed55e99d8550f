// SPDX-License-Identifier: Apache-2.0
// Starts threads, with an error that says what is missing where the system has none left.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {

// Error(device) names the limits when no thread can be started; `what` says what it is for.
template <class Body>
std::thread start_thread(std::string_view what, Body&& body) {
  try {
    return std::thread(std::forward<Body>(body));
  } catch (const std::system_error& error) {
    fail(ErrorCode::device, str("cannot start a thread for ", what, ": ", error.code().message(),
                                "; raise the limit of processes (ulimit -u, pids.max of the container), or use fewer "
                                "--ranks and --threads"));
  }
}

}  // namespace lockstep
