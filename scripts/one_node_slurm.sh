#!/bin/sh
# A real Slurm cluster of one node, this machine, for tests. Needs root and Debian's packages slurm-wlm and munge.
#
# scripts/one_node_slurm.sh start FOLDER   starts munged, slurmctld and slurmd, and waits until the node is idle
# scripts/one_node_slurm.sh stop FOLDER    ends them
#
# FOLDER gets the configuration, the state and the logs. Afterwards: export SLURM_CONF=FOLDER/slurm.conf
# Exit code 3: a cluster cannot run here; the reason is on stderr.
set -eu

refuse() { echo "$1" >&2; exit 3; }

[ $# -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
config=$folder/slurm.conf
export SLURM_CONF="$config" PATH="$PATH:/usr/sbin:/sbin"

end() {   # the process of a pid file, if it is still the program that wrote it
  [ -f "$folder/$1.pid" ] || return 0
  pid=$(cat "$folder/$1.pid")
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "$1" ] || return 0
  kill "$pid"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -d "/proc/$pid" ] || return 0
    sleep 0.5
  done
  kill -9 "$pid" 2> /dev/null || true
}

case $1 in
stop)
  end slurmd; end slurmctld; end munged ;;
start)
  [ "$(id -u)" = 0 ] || refuse "a Slurm node needs root"
  for program in munged slurmctld slurmd sbatch squeue; do
    command -v "$program" > /dev/null || refuse "$program is missing: apt-get install slurm-wlm munge"
  done
  host=$(hostname -s)
  # munge trusts neither a group-writable folder nor a key of others; a socket of its own leaves the system's alone
  mkdir -p "$folder/munge" "$folder/state" "$folder/spool"
  chmod 755 "$folder" "$folder/munge"
  [ -f "$folder/munge/munge.key" ] || head -c 1024 /dev/urandom > "$folder/munge/munge.key"
  chmod 600 "$folder/munge/munge.key"
  munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/munge.key" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" \
    || refuse "munged does not start; see $folder/munge/log"
  cpus=$(nproc)
  # cred_expire: a requeued job waits that long, by default two minutes
  cat > "$config" << END
ClusterName=normbench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=${SLURM_PORT:-16817}
SlurmdPort=$((${SLURM_PORT:-16817} + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MailProg=/bin/true
ReturnToService=2
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
END
  slurmctld && slurmd || refuse "Slurm does not start; see $folder/*.log"
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --partition=low --format=%T 2> /dev/null)" = idle ] && exit 0
    sleep 1
  done
  refuse "the node is not idle after a minute; see $folder/*.log" ;;
*)
  echo "start or stop?" >&2; exit 2 ;;
esac
