// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/model_list.h"

#include "kernels/device/known_name.h"
#include "runtime/models/cnn.h"
#include "runtime/models/mlp.h"

namespace lockstep {

std::vector<std::string_view> model_names() { return {"mlp", "cnn"}; }

Model make_model(std::string_view name, const ModelSettings& settings) {
  const std::vector<std::string_view> known = model_names();
  check_known("model", name, known, list_of(known));
  return name == "mlp" ? make_mlp(settings) : make_cnn(settings);
}

}  // namespace lockstep
