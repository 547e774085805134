#!/usr/bin/env bash
# Train the detector that ships, and its rival with a query for each class, on playground figures; judge both on held-out
# seeds. Two cores take about two hours, 40 minutes where training begins from a model; an interrupted run goes on where
# it was.
#
#   runs/train_small_detect.sh WORK [MODEL]     # WORK needs 4 GB; MODEL is a folder such as src/trifocal/action/small
set -euo pipefail
cd "$(dirname "$0")/.."
WORK=${1:?give a folder to work in}
START=${2:-}
PYTHON=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1

"$PYTHON" -m trifocal.bench.small_detect data "$WORK/clips"
# Where one map for all classes is not enough is then for the second stage to say: both begin as the same function.
if [ -z "$START" ]; then
  "$PYTHON" -m trifocal.bench.small_detect train "$WORK/clips" --out "$WORK/first" --shared-map --epochs 16
  START=$WORK/first
fi
second=(train "$WORK/clips" --start "$START" --epochs 5 --lr 5e-4 --evaluate-every 1)
"$PYTHON" -m trifocal.bench.small_detect "${second[@]}" --out "$WORK/each" &
"$PYTHON" -m trifocal.bench.small_detect "${second[@]}" --out "$WORK/shared" --shared-map
wait
"$PYTHON" -m trifocal.bench.small_detect report "$WORK/clips" --runs "$WORK/each" "$WORK/shared" --out bench/small_detect
# When this was last run a query for each class was no better than one map for all, so the plainer model is in the package.
# Ship "$WORK/each" instead where the report says that it is better:
"$PYTHON" -m trifocal.bench.small_detect ship "$WORK/shared" --out src/trifocal/action/small
"$PYTHON" -m trifocal.bench.small_detect_tubes
"$PYTHON" -m trifocal.bench.small_detect ship "$WORK/each" --out "$WORK/model-each"
"$PYTHON" -m trifocal.bench.small_detect_tubes --model "$WORK/model-each" --ways "as it comes" --out bench/small_detect/tubes-each.json
