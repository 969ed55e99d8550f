// SPDX-License-Identifier: Apache-2.0
#include "tools/training/loop/course.h"

#include "runtime/data/sample_order.h"
#include "tools/checkpoint/run_changes.h"

namespace lockstep {

Course plot_course(const TrainOptions& options, int64_t samples, const ResumedRun& resumed) {
  Course course{.first_step = resumed.first_step(), .batch = options.batch, .samples = samples};
  course.per_epoch = steps_per_epoch(samples, options.batch);
  if (resumed.checkpoint)
    course.batches_ahead =
        batch_to_go_on_with(resumed.checkpoint->manifest.run.position, options.batch, samples) - course.first_step;
  course.steps = options.steps > 0 ? options.steps : options.epochs * course.per_epoch - course.batches_ahead;
  check(course.first_step <= course.steps, ErrorCode::usage, [&] {
    return str("the checkpoint is of step ", course.first_step, ", but the run is to end after step ", course.steps,
               "; give it more --steps or --epochs");
  });
  return course;
}

}  // namespace lockstep
