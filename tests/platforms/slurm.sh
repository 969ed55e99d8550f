#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command beside a Slurm of its own: slurm.sh COMMAND... starts slurmctld with one node, this machine, runs the
# command with `srun` working, and ends it again. Needs root and Debian's packages slurmctld, slurmd, slurm-client,
# slurm-wlm-basic-plugins and munge.
set -u
[ $# -gt 0 ] || { echo "usage: tests/platforms/slurm.sh COMMAND..." >&2; exit 2; }
for program in munged slurmctld slurmd srun; do
  command -v $program >/dev/null || { echo "slurm.sh: error: $program is not installed" >&2; exit 1; }
done

work=$(mktemp -d)
chmod 755 "$work"
services=()
finish() {
  for service in "${services[@]}"; do kill "$service" 2>/dev/null; done
  for service in "${services[@]}"; do wait "$service" 2>/dev/null; done
  rm -rf "$work"
}
trap finish EXIT

mkdir "$work/munge" "$work/state" "$work/spool"
# The owner of munged is checked all the way up; --force passes over what /tmp is.
head -c 1024 /dev/urandom >"$work/munge/key"
chmod 700 "$work/munge"
chmod 400 "$work/munge/key"
munged --force --foreground --key-file "$work/munge/key" --socket "$work/munge.socket" --pid-file "$work/munge/pid" \
  --log-file "$work/munge/log" --seed-file "$work/munge/seed" >"$work/munged.out" 2>&1 &
services+=($!)
port=$((20000 + $$ % 20000))
cat >"$work/slurm.conf" <<END
ClusterName=alone
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool/%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
NodeName=alone NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$(nproc)
PartitionName=all Nodes=alone Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:16
END
export SLURM_CONF=$work/slurm.conf
slurmctld -D >"$work/slurmctld.log" 2>&1 &
services+=($!)
slurmd -D -N alone >"$work/slurmd.log" 2>&1 &
services+=($!)
for _ in {1..100}; do
  sinfo -h -o %t 2>/dev/null | grep -Eq '^(idle|mix|alloc)$' && break
  sleep 0.2
done
sinfo -h -o %t 2>/dev/null | grep -Eq '^(idle|mix|alloc)$' || {
  echo "slurm.sh: error: Slurm does not start; the ends of its logs:" >&2
  tail -n 5 "$work"/*.log >&2
  exit 1
}
"$@"
