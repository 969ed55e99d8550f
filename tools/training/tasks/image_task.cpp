// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "runtime/data/dataset.h"
#include "tools/training/evaluate.h"
#include "tools/training/tasks/training_task.h"

namespace lockstep {
namespace {

class ImageTask final : public TrainingTask {
 public:
  explicit ImageTask(const DataOptions& options)
      : dataset_(load_dataset(options.files.empty() ? kDefaultDataFolder : options.files[0], options.classes)) {}

  std::vector<NamedFile> inputs() const override {
    std::vector<NamedFile> inputs;
    for (const std::string& file : dataset_.files) inputs.push_back({"--data", file});
    return inputs;
  }
  uint64_t content_hash() const override { return dataset_.content_hash; }
  ModelSettings images() const override {
    return {.height = dataset_.train.height, .width = dataset_.train.width, .classes = dataset_.classes()};
  }
  int64_t samples() const override { return dataset_.train.count; }
  std::unique_ptr<BatchSource> batches(const LoaderSettings& settings) const override {
    return image_batches(dataset_.train, settings);
  }
  ProgressWords words() const override { return {}; }
  bool can_score() const override { return true; }
  std::optional<Score> score(const JudgedModel& judged) const override {
    const std::optional<int64_t> correct = count_correct(judged.ranks, judged.stream, judged.pool, judged.model,
                                                         judged.values, dataset_.test, judged.stop);
    if (!correct) return std::nullopt;
    const double accuracy = double(*correct) / double(dataset_.test.count);
    return Score{.text = fmt::format("test_accuracy={:.4f}", accuracy),
                 .counts = fmt::format("correct={} images={}", *correct, dataset_.test.count),
                 .numbers = {{"test_accuracy", accuracy}}};
  }

 private:
  Dataset dataset_;
};

}  // namespace

std::unique_ptr<TrainingTask> make_image_task(const DataOptions& data) {
  check(data.files.size() <= 1, ErrorCode::usage, [&] {
    return str("--data: expected one folder for a model of images, got ", data.files.size(), " names, the second '",
               data.files[1], "'; a language model reads several files (--model gpt-nano)");
  });
  check(data.validation.empty() && data.tokenizer.empty(), ErrorCode::usage,
        "--validation and --tokenizer are for language models, expected none with a model of images: its data have "
        "images to test on");
  return std::make_unique<ImageTask>(data);
}

}  // namespace lockstep
