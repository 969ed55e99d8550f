// SPDX-License-Identifier: Apache-2.0
// What the loop of `lockstep train` has to know of the kind of data that a model reads, and by what it is judged.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/files/file_identity.h"
#include "runtime/models/model_list.h"
#include "tools/training/progress.h"
#include "tools/training/tasks/batch_source.h"
#include "tools/training/train_options.h"
#include "tools/training/weights.h"

namespace lockstep {

// What a model came to on data that it was not trained on.
struct Score {
  std::string text;        // "test_accuracy=0.8812"; empty where there is no such data
  std::string counts;      // what it was counted over: "correct=8812 images=10000"
  nlohmann::json numbers;  // the same for the file of metrics
};

// Weights that are to be judged, on their device.
struct JudgedModel {
  Communicator& ranks;
  Stream& stream;
  Pool& pool;
  const Model& model;
  std::span<const Tensor> values;
};

class TrainingTask {
 public:
  virtual ~TrainingTask() = default;
  virtual std::vector<NamedFile> inputs() const = 0;
  virtual uint64_t content_hash() const = 0;  // of all data; ranks compare it
  // What a model of images is made for.
  virtual ModelSettings images() const { return {}; }
  virtual int64_t samples() const = 0;  // of an epoch
  virtual std::unique_ptr<BatchSource> batches(const LoaderSettings& settings) const = 0;
  virtual ProgressWords words() const = 0;
  // The schedule of a run of so many steps whose user says nothing; empty: the rate stays.
  virtual std::string default_schedule(int64_t /*steps*/) const { return ""; }
  // Rank 0 writes the weights. Language models: a folder of Hugging Face where `path` ends with a slash.
  virtual void save(const std::string& path, const Model& model, const VariableStore& variables) const {
    save_weights(path, model, variables);
  }
  // Error(usage) unless sample() can do what is asked for.
  virtual void check_sample(const SampleRequest& asked) const {
    check(asked.every == 0, ErrorCode::usage,
          "--sample-every is for language models, which write texts; leave it out with a model of images");
  }
  // The text that the model writes as it is now. One rank asks for it; it is computed on the CPU with `threads`, and in
  // memory of its own, so that the training remains as it is.
  virtual std::string sample(const SampleRequest& /*asked*/, uint64_t /*seed*/, const Model& /*model*/,
                             const VariableStore& /*variables*/, int /*threads*/) const {
    return "";
  }
  // Whether score() has data to count on.
  virtual bool can_score() const = 0;
  // Collective; the same on every rank, whatever their number.
  virtual Score score(const JudgedModel& judged) const = 0;
};

// Reads or opens the data. Collective. Error(usage, file, data) names what does not fit the model.
std::unique_ptr<TrainingTask> make_task(Communicator& ranks, const ModelOptions& model, const DataOptions& data);
// The two kinds.
std::unique_ptr<TrainingTask> make_image_task(const DataOptions& data);
std::unique_ptr<TrainingTask> make_language_task(Communicator& ranks, const TransformerSettings& settings,
                                                 int64_t sequence, const DataOptions& data);

}  // namespace lockstep
