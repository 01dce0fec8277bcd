#!/usr/bin/env bash
# Trains on several nodes of a SLURM cluster with one process per GPU, which srun starts without another launcher.
#
#   sbatch --nodes 4 --gpus-per-node 8 scripts/launch_slurm.sh configs/1.2b.yaml parallel.strategy=hybrid [key=value ...]
#
# Before the time limit SLURM sends SIGTERM. The run then finishes its step, saves a checkpoint and ends with exit code 75;
# it is queued again and goes on from its newest checkpoint. All nodes must share the file system of the run folder.
#SBATCH --job-name=norma
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "launch_slurm.sh: which config? sbatch scripts/launch_slurm.sh configs/1.2b.yaml [key=value ...]" >&2
  exit 2
fi
norma="${NORMA:-${SLURM_SUBMIT_DIR:-.}/build/norma}"
[ -x "$norma" ] || {
  echo "launch_slurm.sh: $norma is not there: run scripts/build.sh, or set NORMA" >&2
  exit 2
}

# The ranks meet on the first node, at a port that follows from the number of the job.
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

# 75 means that the run stopped early with a good checkpoint. 6 or a signal means that a peer was lost: the cause may stay,
# so the run is started again only a few times.
most_restarts="${NORMA_MOST_RESTARTS:-5}"
status=0
srun --kill-on-bad-exit=1 "$norma" train "$@" || status=$?
if [ "$status" = 0 ]; then exit 0; fi
if [ "$status" != 75 ] && [ "$status" != 6 ] && [ "$status" -lt 128 ]; then exit "$status"; fi
if [ "$status" != 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -ge "$most_restarts" ]; then
  echo "launch_slurm.sh: exit code $status after $SLURM_RESTART_COUNT restarts: look into the logs, then submit again" >&2
  exit "$status"
fi
echo "launch_slurm.sh: exit code $status, queued again"
scontrol requeue "$SLURM_JOB_ID"
