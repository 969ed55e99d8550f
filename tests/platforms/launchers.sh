#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The same training under every launcher that is here, and one ledger; and launchers that do not serve a program's MPI,
# under which each process would be alone, are refused. tests/README.md says where this was last run.
# shellcheck disable=SC2154,SC2034  # variables of cli/support.sh and for it
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<'END'
usage: tests/platforms/launchers.sh [--steps N] [--ranks "N..."] [--ledger FILE] PROGRAM...

Trains mlp with each PROGRAM, a build of lockstep: ranks as threads, with the mpirun or mpiexec of its MPI, and with srun,
where these are installed. Without a running Slurm one is started for it (tests/platforms/slurm.sh), where that is
possible. Programs with different MPIs, of one library of products, have one ledger.

  --steps N      (default 20)
  --ranks "N.."  (default "1 2 3 4")
  --ledger FILE  compare with this ledger, which another system has written; write it where it is missing
END
}

arguments=("$@")
steps=20 numbers="1 2 3 4" kept=""
while [ $# -gt 0 ]; do
  case "$1" in
    --steps | --ranks | --ledger)
      [ -n "${2:-}" ] || { usage >&2; echo "launchers.sh: error: $1 takes a value" >&2; exit 2; }
      case "$1" in --steps) steps=$2 ;; --ranks) numbers=$2 ;; --ledger) kept=$2 ;; esac
      shift
      ;;
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; echo "launchers.sh: error: unknown option '$1'" >&2; exit 2 ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || { usage >&2; echo "launchers.sh: error: no program given" >&2; exit 2; }

slurm_runs() { command -v sinfo >/dev/null && timeout 10 sinfo -h >/dev/null 2>&1; }
if ! slurm_runs && command -v slurmctld >/dev/null && [ "$(id -u)" -eq 0 ]; then
  exec "$here/slurm.sh" "$0" "${arguments[@]}"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=/dev/null
. "$root/tests/tools/cli/support.sh"
make_data "$work/data"
training=(train --data "$work/data" --model mlp --steps "$steps" --batch 64 --virtual-ranks 8 --dropout 0.2 --threads 1)
threads=()  # the option by which ranks are threads
failures=0 runs=0 refusals=0

say() { printf '%-44s %s\n' "$1" "$2"; }
wrong() {
  say "$1" "WRONG: $2"
  sed 's/^/    /' "$work/said" | head -n 12
  failures=$((failures + 1))
}

same() {  # same LABEL COMMAND...: the command has the ledger of the others
  local label=$1 begin
  shift
  begin=$(date +%s%N)
  rm -f "$work/ledger"
  runs=$((runs + 1))
  timeout -k 5 120 "$@" "${training[@]}" "${threads[@]}" --ledger "$work/ledger" >"$work/said" 2>&1 </dev/null || { wrong "$label" "exit code $?"; return; }
  [ -n "$kept" ] || kept=$work/reference
  [ -f "$kept" ] || cp "$work/ledger" "$kept"
  if cmp -s "$kept" "$work/ledger"; then
    say "$label" "the same ledger ($((($(date +%s%N) - begin) / 1000000)) ms)"
  elif ! cmp -s <(head -n 1 "$kept") <(head -n 1 "$work/ledger"); then
    { head -n 1 "$kept"; head -n 1 "$work/ledger"; } >"$work/said"
    wrong "$label" "another ledger, and the headers say why"
  else
    diff "$kept" "$work/ledger" >"$work/said"
    wrong "$label" "another ledger"
  fi
}

refused() {  # refused LABEL COMMAND...: one line says which launcher serves this MPI
  local label=$1 begin milliseconds code
  shift
  begin=$(date +%s%N)
  refusals=$((refusals + 1))
  timeout -k 5 60 "$@" "${training[@]}" >"$work/said" 2>&1 </dev/null
  code=$?
  milliseconds=$((($(date +%s%N) - begin) / 1000000))
  if [ $code -eq 0 ] || [ $code -ge 124 ]; then
    wrong "$label" "exit code $code instead of an error"
  elif [ "$(grep -c 'lockstep: error: \[launch\] .*start the ranks of ' "$work/said")" -ne 1 ]; then
    wrong "$label" "no single line says what to do"
  elif [ $milliseconds -gt 5000 ]; then
    wrong "$label" "refused only after $milliseconds ms"
  else
    say "$label" "refused with what to do ($milliseconds ms)"
  fi
}

# Puts the mpirun of Open MPI, whose version must be the library's, first in the path; it has another name where several MPIs are.
find_mpirun() {  # find_mpirun VERSION (any, where empty)
  local name
  for name in mpirun mpirun.openmpi; do
    "$name" --version 2>/dev/null | head -n 1 | grep -Eq "Open ?MPI\)? ${1//./\\.}" || continue
    mkdir -p "$work/bin"
    ln -sf "$(command -v $name)" "$work/bin/mpirun"
    mpirun=(env PATH="$work/bin:$PATH" "$root/tools/mpirun.sh")
    return 0
  done
  return 1
}
find_hydra() {
  local name
  for name in mpiexec.hydra mpiexec.mpich mpiexec; do
    "$name" --version 2>/dev/null | grep -q HYDRA || continue
    hydra=$name
    return 0
  done
  return 1
}
with_srun() {  # with_srun PLUGIN PROGRAM LABEL
  slurm_runs || return
  for ranks in $numbers; do same "$3: srun --mpi=$1 -n $ranks" srun -n "$ranks" --overcommit --mpi="$1" "$2"; done
  refused "$3: srun --mpi=none -n 2" srun -n 2 --overcommit --mpi=none "$2"
}

for program in "$@"; do
  mpi=$("$program" doctor | sed -n 's/^mpi  *//p')
  for ranks in $numbers; do
    threads=(--ranks "$ranks")
    same "threads: --ranks $ranks" "$program"
  done
  threads=()
  case "$mpi" in
    "Open MPI"*)
      if find_mpirun "${mpi#Open MPI v}"; then
        for ranks in $numbers; do same "$mpi: mpirun -np $ranks" "${mpirun[@]}" -np "$ranks" "$program"; done
      else
        say "$mpi: mpirun" "not here"
      fi
      with_srun pmix "$program" "$mpi"
      if find_hydra; then refused "$mpi: mpiexec of MPICH -n 2" "$hydra" -n 2 "$program"; fi
      ;;
    MPICH*)
      if find_hydra; then
        for ranks in $numbers; do same "$mpi: mpiexec -n $ranks" "$hydra" -n "$ranks" "$program"; done
      else
        say "$mpi: mpiexec" "not here"
      fi
      with_srun pmi2 "$program" "$mpi"
      if find_mpirun ""; then refused "$mpi: mpirun of Open MPI -np 2" "${mpirun[@]}" -np 2 "$program"; fi
      ;;
    not*) ;;
    *) say "$mpi" "no launcher is known here for this MPI" ;;
  esac
done
slurm_runs || say "srun" "not here"
[ $failures -eq 0 ] || { echo "$failures of $((runs + refusals)) runs went wrong"; exit 1; }
echo "$runs runs, one ledger; $refusals launchers of other MPIs refused"
