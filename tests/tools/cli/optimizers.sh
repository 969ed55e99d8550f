# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Optimizers and learning-rate schedules on the command line, and pictures of schedules.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

config_of() { head -n 1 "$1" | grep -o 'config=.*'; }

# The settings of every run here; one epoch of the small data is 10 steps.
short=(--epochs 1 --batch 64 --virtual-ranks 8 --threads 1)

test_optimizer_options() {
  local option=--optimizer-option bytes
  expect_success "${on_data[@]}" "${short[@]}" --learning-rate 0.02 --beta-1 0.8 --ledger "$work/flags"
  expect_success "${on_data[@]}" "${short[@]}" $option beta_1=0.8 $option=learning_rate=2e-2 --ledger "$work/options"
  expect_same "$work/flags" "$work/options"
  # Options that have no flag of their own: another value is another run, and slots follow.
  expect_success "${on_data[@]}" "${short[@]}" --optimizer rmsprop $option rho=0.95 --ledger "$work/a"
  expect_success "${on_data[@]}" "${short[@]}" --optimizer rmsprop $option rho=0.5 --ledger "$work/b"
  [ "$(config_of "$work/a")" != "$(config_of "$work/b")" ] || complain "expected another configuration"
  ! cmp -s <(tail -n 1 "$work/a") <(tail -n 1 "$work/b") || complain "expected other bits"
  expect_success "$lockstep" plan --optimizer adam $option amsgrad=1
  expect_output 1 '^dense_1/weight/adam/velocity_hat '
  expect_success "$lockstep" explain --optimizer rmsprop $option centered=1 $option momentum=0.9
  expect_output 1 '^dense_1/weight/rmsprop/average_gradient '

  local known='Known are: learning_rate, weight_decay, coupled_weight_decay, rho, momentum, epsilon, torch_formula, centered'
  expect_error 2 "*rmsprop has no hyper-parameter 'roh'; did you mean 'rho'? $known" \
    "${bad[@]}" --optimizer rmsprop $option roh=0.9
  expect_error 2 "*adam has no hyper-parameter 'rho'*" "$lockstep" plan $option rho=0.9
  expect_error 2 "*adam has no hyper-parameter 'rho'*" "$lockstep" explain $option rho=0.9
  for bytes in = rho rho= =0.9 rho=fast rho=0.9x 'rho=0.9 ' rho==0.9 rho=0.9,epsilon=1; do
    expect_error 2 "*--optimizer-option: expected NAME=VALUE with a number, such as beta_1=0.95, got '$bytes'" \
      "${bad[@]}" --optimizer rmsprop "$option=$bytes"
  done
  for bytes in nan inf -inf -0.1 1; do
    expect_error 2 "*rmsprop: expected rho in \[0, 1), got $bytes; the default is 0.9" \
      "${bad[@]}" --optimizer rmsprop $option rho=$bytes
  done
  expect_error 2 '*--optimizer-option beta_1=0.7: beta_1 is 0.8 by another option already; leave one of them out' \
    "${bad[@]}" $option beta_1=0.7 --beta-1 0.8
  expect_error 2 '*--optimizer-option beta_1=0.7: beta_1 is 0.8 by another option already*' \
    "${bad[@]}" $option beta_1=0.8 $option beta_1=0.7
}

test_groups() {
  local run=("${on_data[@]}" "${short[@]}") weights ranks
  expect_success "${run[@]}" --ledger "$work/plain"
  # What changes nothing changes no bit, and is another configuration all the same.
  expect_success "${run[@]}" --group '.*/bias => weight_decay=0' --ledger "$work/same"
  cmp -s <(tail -n +2 "$work/plain") <(tail -n +2 "$work/same") || complain "expected the same bits"
  [ "$(config_of "$work/plain")" != "$(config_of "$work/same")" ] || complain "expected another configuration"
  expect_success "${run[@]}" --group '.*/bias => sgd(learning_rate=0.1)' --group 'logits/weight => rate_factor=0.1' \
    --ema-momentum 0.9 --ema-overwrite-every 4 --loss-scale 1024 --ledger "$work/one"
  expect_success "${run[@]}" --group '.*/bias => sgd(learning_rate=0.1)' --group 'logits/weight => rate_factor=0.1' \
    --ema-momentum 0.9 --ema-overwrite-every 4 --loss-scale 1024 --ranks 3 --ledger "$work/three"
  expect_same "$work/one" "$work/three"
  ! cmp -s <(tail -n 1 "$work/one") <(tail -n 1 "$work/plain") || complain "expected other bits"
  expect_success "$lockstep" plan --group 'dense_1/.* => freeze' --ema-momentum 0.9 --loss-scale 2
  expect_output 1 '^logits/weight/adam/average '
  expect_output 1 '^adam/loss_scale '
  expect_output 1 '^dense_1/weight .* frozen'
  expect_success "$lockstep" explain logits/bias --group '.*/bias => sgd(learning_rate=0.1)'
  expect_output 1 "^  update +sgd at 0.1 +group rule '\.\*/bias => sgd\(learning_rate=0.1\)'$"
  expect_success "$lockstep" explain logits/weight
  expect_output 1 '^  update +adam +no group rule matches$'
  for ranks in 1 3; do
    expect_success "${run[@]}" --accumulation 3 --ranks $ranks --ledger "$work/accumulated_$ranks"
  done
  expect_same "$work/accumulated_1" "$work/accumulated_3"
  expect_error 2 '*--accumulation: expected a whole number from 1*got 0*' "${bad[@]}" --accumulation 0
  # The averages are what files get.
  for weights in averaged last; do
    expect_success "${run[@]}" --ema-momentum "$([ $weights = averaged ] && echo 0.9 || echo 0)" --save "$work/$weights"
  done
  expect_success "${run[@]}" --save "$work/without"
  expect_same "$work/last" "$work/without"
  ! cmp -s "$work/averaged" "$work/without" || complain "expected other weights"

  expect_error 1 "*group rule 'dense_9/.* => freeze' matches no parameter*dense_1*" "${bad[@]}" --group 'dense_9/.* => freeze'
  expect_error 1 '*variable dense_1/bias matches 2 group rules*' "${bad[@]}" --group '.*/bias => weight_decay=0' \
    --group 'dense_1/.* => freeze'
  expect_error 2 "*group rule 'dense_1/.*': expected PATTERN => SETTINGS*" "${bad[@]}" --group 'dense_1/.*'
  expect_error 2 '*ema_momentum: expected a number from 0 to 1, got 1.5*' "${bad[@]}" --ema-momentum 1.5
  expect_error 2 '*--ema-overwrite-every: expected a whole number from 1*' "${bad[@]}" --ema-momentum 0.5 --ema-overwrite-every 0
  expect_error 2 '*give --ema-momentum too*' "${bad[@]}" --ema-overwrite-every 3
  expect_error 2 '*loss_scale: expected a power of two*got 3*' "${bad[@]}" --loss-scale 3
  expect_error 2 '*give --loss-scale too*' "${bad[@]}" --loss-scale-growth-steps 3
}

rates() { grep -o '"learning_rate":[^,}]*' "$1" | cut -d: -f2; }

expect_rates() {  # expect_rates RATE...: of the steps, in the metrics
  [ "$(rates "$work/metrics" | tr '\n' ' ')" = "$* " ] ||
    complain "expected the rates $*, got $(rates "$work/metrics" | tr '\n' ' ')"
}

test_schedules() {
  local run=("${on_data[@]}" "${short[@]}") ranks text
  expect_success "${run[@]}" --ledger "$work/plain"
  # The raw counter of committed steps counts: the first step has the rate of step 0.
  text='piecewise_constant(boundaries=[0, 2], values=[0.5, 0.25, 0.125])'
  expect_success "${run[@]}" --optimizer sgd --steps 5 --schedule "$text" --metrics "$work/metrics"
  expect_rates 0.5 0.25 0.25 0.125 0.125
  expect_output 1 ', schedule piecewise_constant\(boundaries=\[0, 2\], values=\[0.5, 0.25, 0.125\]\)$'
  # From the rate of the optimizer, as given.
  expect_success "${run[@]}" --learning-rate 0.5 --schedule 'polynomial(steps=4, end=0)' --metrics "$work/metrics"
  expect_rates 0.5 0.375 0.25 0.125 0.0 0.0 0.0 0.0 0.0 0.0

  # The same bits on any number of ranks; every step has scalars of its own.
  text='cosine(decay_steps=10, warmup_steps=3, warmup_target=0.002)'
  expect_success "${run[@]}" --schedule "$text" --ledger "$work/reference" --save "$work/reference_weights"
  for ranks in 2 3 5; do
    expect_success "${run[@]}" --ranks $ranks --schedule "$text" --ledger "$work/ledger" --save "$work/weights"
    expect_same "$work/reference" "$work/ledger"
    expect_same "$work/reference_weights" "$work/weights"
  done
  [ "$(config_of "$work/plain")" != "$(config_of "$work/reference")" ] || complain "expected another configuration"
  # A rate that does not move is that of no schedule, in a run of another name.
  expect_success "${run[@]}" --schedule constant --ledger "$work/ledger"
  expect_same <(tail -n +2 "$work/plain") <(tail -n +2 "$work/ledger")
  [ "$(config_of "$work/plain")" != "$(config_of "$work/ledger")" ] || complain "expected another configuration"
  # At rate 0 nothing is learned but the counter goes on, and the schedule with it.
  expect_success "${run[@]}" --schedule 'linear_warmup(steps=4, learning_rate=1)' --steps 2 --metrics "$work/metrics"
  expect_rates 0.0 0.25

  expect_error 2 "*unknown learning-rate schedule 'cosin'; did you mean 'cosine'? Known are: constant, *" \
    "${bad[@]}" --schedule 'cosin(steps=10)'
  expect_error 2 "*cosine has no hyper-parameter 'step'; did you mean 'steps'?*" "${bad[@]}" --schedule 'cosine(steps=3, step=1)'
  expect_error 2 "*cosine: expected a value for steps, which has no default*" "${bad[@]}" --schedule cosine
  expect_error 2 "*schedule 'cosine(steps=10': expected ',' or ')' after 'cosine(steps=10', got the end*" \
    "${bad[@]}" --schedule 'cosine(steps=10'
  expect_error 2 "*schedule '': expected a name after ''*" "${bad[@]}" --schedule ''
  expect_error 2 "*expected learning_rate in *, got -1*" "${bad[@]}" --schedule 'constant(learning_rate=-1)'
  # A rate that grows out of all bounds stops the run at that step, on every rank alike.
  expect_error 1 '*\[numbers\]*adam: expected a learning rate that is finite *, got *e+*look at the learning-rate schedule*' \
    "${on_data[@]}" "${short[@]}" --ranks 2 --save "$out/old" --schedule 'exponential(steps=1, decay_rate=3e38, learning_rate=2)'
}

test_precision() {
  local run=("${on_data[@]}" "${short[@]}") precision weights
  expect_success "${run[@]}" --ledger "$work/f32"
  expect_success "${run[@]}" --precision f32 --ledger "$work/same"
  expect_same "$work/f32" "$work/same"
  for precision in bf16 bf16-stochastic f16; do
    weights=$work/$precision.safetensors
    expect_success "${run[@]}" --precision $precision --ledger "$work/one" --save "$weights"
    expect_output 1 '^test_accuracy='
    grep -o '^test_accuracy=[^ ]*' "$work/stdout" >"$work/trained"
    expect_success "${run[@]}" --precision $precision --ranks 3 --ledger "$work/three"
    expect_same "$work/one" "$work/three"
    [ "$(config_of "$work/one")" != "$(config_of "$work/f32")" ] || complain "expected another configuration"
    # A file has its weights in the dtype they were trained in, and is evaluated so without being told.
    expect_success "$lockstep" eval --data "$data" --weights "$weights"
    grep -o '^test_accuracy=[^ ]*' "$work/stdout" >"$work/evaluated"
    expect_same "$work/trained" "$work/evaluated"
    grep -aq "\"dtype\":\"${precision%%-*}\"" <(head -c 4096 "$weights" | tr BF bf) || complain "expected $precision"
    expect_success "$lockstep" plan --verify --ranks 2 --precision $precision
  done
  ! cmp -s "$work/bf16.safetensors" "$work/bf16-stochastic.safetensors" || complain "expected other weights"
  expect_success "$lockstep" plan --precision bf16-stochastic
  expect_output 0 'adam/master'
  expect_success "$lockstep" plan --precision bf16
  expect_output 1 '^dense_1/weight/adam/master  *slot  *.784, 512.  *f32 '
  expect_success "$lockstep" explain --precision f16
  expect_output 1 '^adam/loss_scale '
  expect_error 2 "*--precision: expected f32, bf16, bf16-stochastic or f16, got 'fp16'" "${bad[@]}" --precision fp16
  expect_error 2 "*--precision: expected f32, bf16*" "$lockstep" plan --precision half
}

test_plot() {
  local plot=("$lockstep" plot schedule) cosine='cosine(steps=2345, warmup_steps=100)' full
  full='cosine(learning_rate=0.001, steps=2345, alpha=0, warmup_steps=100, start=0)'
  expect_success "${plot[@]}" "$cosine"
  expect_output 1 '^<svg '
  expect_output 1 '^</svg>$'
  expect_output 1 "^<text .*>${full//[()]/.}</text>$"
  expect_output 1 '^<polyline points="90.00,390.00 '
  # It ends at the last of its steps.
  expect_output 1 '^<polyline .* [0-9.]*,390.00" '
  expect_output 1 '^<text .*>end: step 2345</text>$'
  expect_output 1 '>2500</text>$'
  cp "$work/stdout" "$work/printed"
  expect_success "${plot[@]}" "$cosine" --output "$work/curve.svg"
  expect_same "$work/printed" "$work/curve.svg"
  [ ! -s "$work/stdout" ] || complain "expected nothing on standard output"
  # The full text draws the same picture.
  expect_success "${plot[@]}" "$full" --learning-rate 7
  expect_same "$work/printed" "$work/stdout"
  # A few steps: both ends and each between. 0.004, 0.003, 0.002, 0.001, 0 from top to bottom.
  expect_success "${plot[@]}" 'polynomial(steps=4, end=0)' --learning-rate 0.004 --steps 4
  expect_output 1 'points="90.00,50.00 260.00,135.00 430.00,220.00 600.00,305.00 770.00,390.00"'
  expect_success "${plot[@]}" 'polynomial(steps=4, end=0)' --learning-rate 0.004
  expect_output 1 'points="90.00,50.00 260.00,135.00 430.00,220.00 600.00,305.00 770.00,390.00"'
  expect_success "${plot[@]}" constant
  expect_output 1 '>1000</text>$'
  expect_success "${plot[@]}" 'piecewise_constant(boundaries=[400], values=[2, 1])'
  expect_output 1 '>500</text>$'
  expect_success "${plot[@]}" 'inverse_time(steps=9e15, decay_rate=1)' --steps 1000000000000
  expect_output 1 '>1e\+12</text>$'
  expect_output 1 'points=".* 770.00,[0-9.]*"'

  expect_error 2 "*unknown learning-rate schedule 'cosin'; did you mean 'cosine'?*" "${plot[@]}" 'cosin(steps=10)'
  expect_error 2 "*cosine has no hyper-parameter 'alhpa'; did you mean 'alpha'?*" "${plot[@]}" 'cosine(steps=10, alhpa=1)'
  expect_error 2 "*expected '=' and a value for steps after 'cosine(steps ', got '10)'*" "${plot[@]}" 'cosine(steps 10)'
  expect_error 2 "*unknown command 'schedul'; did you mean 'schedule'?*" "$lockstep" plot schedul constant
  expect_error 2 '*subcommand is required*' "$lockstep" plot
  expect_error 2 '*text is required*' "${plot[@]}"
  expect_error 2 '*--steps: expected 1 to 1000000000000 steps, got -1' "${plot[@]}" constant --steps -1
  expect_error 2 '*--steps: expected 1 to 1000000000000 steps, got 1000000000001' "${plot[@]}" constant --steps 1000000000001
  expect_error 2 '*expected learning_rate in *, got nan*' "${plot[@]}" constant --learning-rate nan
  expect_error 1 "*\[numbers\] plot 'exponential(*': expected finite numbers *, got learning rate * at step *" \
    "${plot[@]}" 'exponential(steps=1, decay_rate=1e38)' --steps 20 --output "$out/new"
  expect_error 1 "*'$work/nowhere/file'*" "${plot[@]}" constant --output "$work/nowhere/file"
  expect_error 1 "*'$out'*" "${plot[@]}" constant --output "$out"
  expect_error 2 "*cosine: expected a value for steps*" "${plot[@]}" cosine --output "$out/old"
}
