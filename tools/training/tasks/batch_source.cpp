// SPDX-License-Identifier: Apache-2.0
#include "tools/training/tasks/batch_source.h"

#include <utility>
#include <vector>

#include "runtime/data/tokens/token_batch.h"
#include "tools/training/image_part.h"

namespace lockstep {
namespace {

// `view` makes a BatchPart of what the loader prepares for a part.
template <class Loader, class View>
class LoadedBatches final : public BatchSource {
 public:
  template <class Data, class Settings>
  LoadedBatches(const Data& data, const Settings& settings, View view)
      : loader_(data, settings), view_(std::move(view)) {}

  StepBatch next() override {
    const auto& batch = loader_.next();
    parts_.clear();
    for (const auto& part : batch.parts) parts_.push_back(view_(part));
    return {batch.step, batch.epoch, batch.global_count, batch.data_hash, parts_};
  }

 private:
  Loader loader_;
  View view_;
  std::vector<BatchPart> parts_;
};

}  // namespace

std::unique_ptr<BatchSource> image_batches(const Images& images, const LoaderSettings& settings) {
  const auto view = [&images](const ImagePart& part) { return image_part(part, images); };
  return std::make_unique<LoadedBatches<BatchLoader, decltype(view)>>(images, settings, view);
}

std::unique_ptr<BatchSource> token_batches(const TokenDataset& tokens, const LoaderSettings& settings) {
  const auto view = [length = tokens.sequence_length()](const TokenPart& part) { return token_part(part, length); };
  const TokenLoaderSettings of_tokens{.batch = settings.batch,
                                      .steps = settings.steps,
                                      .seed = settings.seed,
                                      .shuffle = settings.shuffle,
                                      .virtual_ranks = settings.virtual_ranks,
                                      .first_part = settings.first_part,
                                      .end_part = settings.end_part,
                                      .prefetch = settings.prefetch};
  return std::make_unique<LoadedBatches<TokenLoader, decltype(view)>>(tokens, of_tokens, view);
}

}  // namespace lockstep
