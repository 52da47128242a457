#!/bin/bash
#SBATCH --job-name=edgeseg-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
# One training on two machines. Data and run are on a disk that all of them see.
set -eu
export DATA=$HOME/data/lesions RUN=$HOME/runs/lesions EDGESEG=$HOME/edgeseg/.venv/bin/edgeseg
CLUSTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed 's/.*/"&:22220"/' | paste -sd,)
export CLUSTER

# When a worker is lost, srun ends the others, and all go on from the last checkpoint.
for attempt in 1 2 3 4 5; do
    # shellcheck disable=SC2016  # expanded by each worker, which knows its own number
    srun --kill-on-bad-exit=1 bash -c '
        export TF_CONFIG="{\"cluster\": {\"worker\": [$CLUSTER]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
        [ ! -d "$RUN.partial" ] || set -- --resume
        exec "$EDGESEG" train "$DATA" --out "$RUN" --strategy multi-worker --batch 32 "$@"
    ' worker && exit 0
    [ ! -d "$RUN" ] || exit 0
    echo "attempt $attempt ended; going on from the last checkpoint" >&2
    sleep 10
done
exit 1
