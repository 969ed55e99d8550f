#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs mpirun with the settings that make it start anywhere: as root, on fewer cores than ranks, without ssh, in a pipe.
# usage: tools/mpirun.sh -np N PROGRAM [ARGUMENT...]
set -eu

# The settings are Open MPI's; other launchers ignore them. What the user has set stays.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export OMPI_MCA_btl_base_warn_component_unused="${OMPI_MCA_btl_base_warn_component_unused:-0}"
if ! command -v ssh >/dev/null && ! command -v rsh >/dev/null; then
  # It looks for a remote shell even when every rank is local.
  export OMPI_MCA_plm_rsh_agent="${OMPI_MCA_plm_rsh_agent:-/bin/false}"
fi
# Where all ranks are on this machine they talk through memory, and nobody has to be reachable from outside.
one_machine=yes
case " $* " in
*" -H "* | *" --H "* | *" -host "* | *" --host "* | *hostfile* | *machinefile*) one_machine=no ;;
esac
# A batch system may have given several machines.
[ "${SLURM_JOB_NUM_NODES:-1}" = 1 ] || one_machine=no
[ -z "${PBS_NODEFILE:-}${PE_HOSTFILE:-}${LSB_HOSTS:-}${LSB_DJOB_HOSTFILE:-}${OMPI_MCA_orte_default_hostfile:-}" ] ||
  one_machine=no
if [ $one_machine = yes ]; then
  export OMPI_MCA_btl="${OMPI_MCA_btl:-self,vader}"
fi
# More ranks than cores, in the words of Open MPI 5, which then gives no rank a core of its own: not where ranks fit, as far
# as can be told here.
ranks=0 previous=""
for argument in "$@"; do
  case "$previous" in
  -np | --np | -n | --n | -c) case "$argument" in '' | *[!0-9]*) ;; *) ranks=$((ranks + argument)) ;; esac ;;
  esac
  previous=$argument
done
cores=$(lscpu -p=Core,Socket 2>/dev/null | grep -v '^#' | sort -u | wc -l)
allowed=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
[ "$cores" -le "$allowed" ] || cores=$allowed
if [ $one_machine = no ] || [ $ranks -eq 0 ] || [ $ranks -gt "$cores" ] ||
  [ -n "${SLURM_JOB_ID:-}${PBS_JOBID:-}${LSB_JOBID:-}${JOB_ID:-}" ]; then
  export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
fi
# Open MPI gives ranks a terminal of their own even when its output goes to a pipe or a file.
[ -t 1 ] || export TERM=dumb

# The mpirun of the bundle belongs to the library that the bundle made the build use.
bundle=${LOCKSTEP_BUNDLE:-$(dirname "$0")/../offline_bundle}
if [ -x "$bundle/usr/bin/mpirun" ]; then
  bundle=$(cd "$bundle" && pwd)
  libraries=$bundle/usr/lib/$(sed -n 's/^libraries //p' "$bundle/manifest.txt")
  export OPAL_PREFIX="$bundle/usr" PMIX_LIBDIR="$libraries/pmix2/lib" PMIX_DATADIR="$libraries/pmix2/share"
  export PATH="$bundle/usr/bin:$PATH"
fi
command -v mpirun >/dev/null || {
  echo "mpirun.sh: error: mpirun is not installed (Debian: openmpi-bin); 'lockstep train --ranks N' runs ranks as threads" >&2
  exit 1
}
exec mpirun "$@"
