#!/bin/bash
#SBATCH --job-name=edgeseg-tune
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --requeue
# Eight workers of one study. The address of the database is in a file that only you can read, never on a command line.
set -eu
data=$HOME/data/lesions
EDGESEG_STORAGE=$(cat "$HOME/.edgeseg-storage")
export EDGESEG_STORAGE
# a folder for each worker: the database has the trials
out=${SLURM_TMPDIR:-/tmp}/tune-$SLURM_JOB_ID-$SLURM_ARRAY_TASK_ID
exec "$HOME/edgeseg/.venv/bin/edgeseg" tune "$data" --out "$out" --study lesions --trials 100 --epochs 30
