// SPDX-License-Identifier: Apache-2.0
// The command line: every sub-command declares its options and what it does with them.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "collectives/communicator.h"
#include "tools/training/train_options.h"

namespace lockstep {

// What a sub-command runs on: the ranks that the launcher started, or one.
using Command = std::function<void(Communicator&)>;

// Each adds its sub-command to `app`; parsing it sets `chosen`.
void add_train_command(CLI::App& app, Command& chosen);
void add_eval_command(CLI::App& app, Command& chosen);
void add_bench_command(CLI::App& app, Command& chosen);
void add_explain_command(CLI::App& app, Command& chosen);
void add_plan_command(CLI::App& app, Command& chosen);
void add_plot_command(CLI::App& app, Command& chosen);
void add_doctor_command(CLI::App& app, Command& chosen);

// Options of train, plan and explain that decide the plan.
void add_plan_options(CLI::App& command, PlanOptions& options);
// And those of plan and explain, which plan for ranks that need not exist.
struct PlanningOptions;
void add_planning_options(CLI::App& command, PlanningOptions& options);

}  // namespace lockstep
