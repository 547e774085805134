#!/usr/bin/env bash
# Train the retriever on drawn videos, three seeds, and judge it by the rule for shipping: it must beat the training-free
# prototypes on held-out drawn videos and not lose on the real clips. Half an hour of one core; videos and frames that
# are there are not made again.
#
#   runs/train_small_find.sh WORK [CLIPS]     # CLIPS: the folder of real clips that the queries are written for
set -euo pipefail
cd "$(dirname "$0")/.."
WORK=${1:?give a folder to work in}
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-bench/small_find}
export OMP_NUM_THREADS=1
trifocal() { "$PYTHON" -m trifocal "$@"; }

# Two seeds of the playground share no video: the second collection is judged on and never trained on.
kind=(--duration 8 16 --fps 8)
trifocal playground make "$WORK/train" --count 60 --seed 101 "${kind[@]}"
trifocal playground make "$WORK/held" --count 30 --seed 202 "${kind[@]}"
for seed in 0 1 2; do
  [ -d "$WORK/run-$seed/model" ] ||
    trifocal train find --captions "$WORK/train/captions.csv" --out "$WORK/run-$seed" --epochs 12 --seed "$seed" --device cpu
  trifocal eval find --model "$WORK/run-$seed" --untrained --captions "$WORK/held/captions.csv" --out "$OUT/held-$seed.json"
done
"$PYTHON" -m trifocal.bench.zero_shot ${2:+--clips "$2"} --out "$OUT/clips.json" \
  --encoder "$WORK"/run-0/model "$WORK"/run-1/model "$WORK"/run-2/model
"$PYTHON" -m trifocal.bench.small_find "$OUT"
