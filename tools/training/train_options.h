// SPDX-License-Identifier: Apache-2.0
// What a user asks of `lockstep train`, and the checks that are possible before any data is read.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "optimizers/optimizer_set.h"
#include "optimizers/schedules/schedule.h"
#include "runtime/models/transformer.h"
#include "runtime/plan/plan_settings.h"
#include "runtime/run_device.h"
#include "runtime/step/clip.h"
#include "runtime/variables/parameter_groups.h"
#include "runtime/variables/precision.h"
#include "runtime/variables/variables.h"
#include "tools/checkpoint/checkpoint_options.h"

namespace lockstep {

// What the user wants otherwise than a shipped language model has it.
using TransformerChange = std::function<void(TransformerSettings&)>;

// The model, the dtype of its weights, and what updates them: shared by train, plan and explain.
struct ModelOptions {
  std::string name = "mlp";
  std::vector<TransformerChange> changes = {};  // of a language model
  int64_t sequence = 0;                         // tokens of its samples; 0: as many as it can take
  double dropout = 0;
  DType weights = DType::f32;  // dtype of matrices
  std::string optimizer = "adam";
  std::map<std::string, double> hyperparameters =
      {};                                // "learning_rate", "momentum", ...; absent: the optimizer's default
  std::vector<std::string> freeze = {};  // paths of variables that are not trained
  std::vector<GroupRule> groups = {};
  std::optional<double> ema_momentum = std::nullopt;
  std::optional<int64_t> ema_overwrite_every = std::nullopt;
  std::optional<double> loss_scale = std::nullopt;
  std::optional<int64_t> loss_scale_growth_steps = std::nullopt;
};

struct DataOptions {
  // Of a model of images: one folder, or none for the default. Of a language model: files of tokens, or globs.
  std::vector<std::string> files = {};
  int64_t classes = 0;                       // of the images; 0: those that the labels have
  std::vector<std::string> validation = {};  // files of tokens
  std::string tokenizer = {};                // that made them: tells the bytes that they stand for
  int64_t eval_tokens = 0;                   // of validation that count; 0: all
};

// What is looked at over and over while a run goes on.
enum class Audit : uint8_t {
  replicas,  // copies of weights and slots are compared before every update (runtime/step/audit/replica_audit.h)
};
inline constexpr Audit kAudits[] = {Audit::replicas};
std::string_view to_string(Audit audit);

// Texts that a language model writes while it is trained, for people to look at.
struct SampleRequest {
  int64_t every = 0;        // steps; 0: none
  std::string prompt = {};  // empty: a text is begun
  int64_t tokens = 64;      // at most, behind the prompt
};

struct TrainOptions {
  ModelOptions model;
  PlanSettings plan;  // what the command line says of it; ranks are those that exist
  DataOptions data;
  std::string device = "cpu";
  DeviceTransport transport = DeviceTransport::automatic;  // carries gradients between GPUs
  bool graph = false;                                      // GPUs: record a step, launch it as a whole
  int64_t epochs = 5;
  int64_t steps = 0;       // above 0: replaces epochs
  int64_t batch = 128;     // samples
  int64_t eval_every = 0;  // steps; 0: the model is judged at the end alone
  SampleRequest sample = {};
  int64_t seed = 1;
  int64_t threads = 0;  // 0: the cores this rank may use
  int64_t ranks = 0;    // above 0: as many ranks as threads of this process
  double timeout_seconds = 60;
  std::optional<std::string> schedule =
      std::nullopt;               // text of the learning rate's schedule; without it the rate is constant
  std::string progress = "auto";  // auto | terminal | plain
  ClipOptions clip = {};
  std::string ledger, metrics, record, save;
  std::vector<Audit> audits = {};
  std::string profile_steps = {};  // "FIRST:LAST": a profiler that waits records these steps
  CheckpointRunOptions checkpoints = {};
};

// Steps counted from 1, both included. Steps that no run has where there are none.
struct StepInterval {
  int64_t first = 0, last = 0;
};
// Error(usage) unless `text` is "FIRST:LAST" or empty.
StepInterval parse_profile_steps(const std::string& text);

// The bytes that `option` gives in MiB, at least one. Error(usage).
int64_t bytes_of_mib(const char* option, double mib);

// Error(usage) unless it is a number of threads, or 0 for all available cores.
void check_threads(int64_t threads);

// Narrows weights, freezes variables and assigns the others to groups as the options say; the loss of f16 weights is
// scaled. Error(usage, plan).
OptimizerSet choose_optimizers(const ModelOptions& options, VariableTable& variables);

// Error(usage) for what cannot be planned.
void check_plan_options(const ModelOptions& model, const PlanSettings& plan);

// Throws Error(usage) for what makes no sense with this number of ranks.
void check_train_options(const TrainOptions& options, int ranks);

// Adds "NAME=VALUE", as given with `option`, to the hyper-parameters. Error(usage) for another form, and for a name
// that already has a value.
void set_hyperparameter(ModelOptions& options, const std::string& option, const std::string& text);

// Something that decides the numbers: {"batch", "128"}.
struct RunFact {
  std::string name, value;
};

// Everything that decides the numbers, and nothing that does not (ranks, threads, devices, buckets, files), in one
// order. `settings` are those of the plan. A name may come several times.
std::vector<RunFact> run_facts(const TrainOptions& options, const OptimizerSet& optimizer,
                               const std::optional<Schedule>& schedule, const PlanSettings& settings);

// The same in words, for ledger and agreement.
std::string run_description(const TrainOptions& options, const OptimizerSet& optimizer,
                            const std::optional<Schedule>& schedule, const PlanSettings& settings);

}  // namespace lockstep
