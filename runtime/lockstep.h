// SPDX-License-Identifier: Apache-2.0
// Everything that your own program needs to train a model; docs/library.md walks through it.
#pragma once

#include "runtime/data/batch.h"
#include "runtime/data/tokens/token_batch.h"
#include "runtime/language/language_model.h"
#include "runtime/language/save_trained.h"
#include "runtime/language/text_generator.h"
#include "runtime/layers/convolution.h"
#include "runtime/layers/linear.h"
#include "runtime/layers/metrics.h"
#include "runtime/layers/norms.h"
#include "runtime/ops/language.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/plan_text.h"
#include "runtime/program.h"
#include "runtime/text/encoder.h"
#include "runtime/trainer.h"
