#!/usr/bin/env bash
# Own videos from files to clips: make two collections of drawn videos, train on the captions of one, add the other to a
# library with what was trained, measure, and see whether the clips that `find` writes show the captions' moments.
#
#   runs/own_videos.sh WORK [TO_TRAIN_ON] [TO_SEARCH]     # 60 and 8 videos by default; ten minutes of one core
#
# A run that is already in WORK/run is used as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
WORK=${1:?give a folder to work in}
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-bench/own_videos}
export OMP_NUM_THREADS=1
trifocal() { "$PYTHON" -m trifocal "$@"; }

kind=(--duration 8 16 --fps 8)
trifocal playground make "$WORK/own" --count "${3:-8}" --seed 303 "${kind[@]}"
if [ ! -d "$WORK/run/model" ]; then
  trifocal playground make "$WORK/train" --count "${2:-60}" --seed 101 "${kind[@]}"
  trifocal train find --captions "$WORK/train/captions.csv" --out "$WORK/run" --epochs 12 --device cpu
fi
trifocal eval find --model "$WORK/run" --untrained --captions "$WORK/own/captions.csv" --out "$OUT/eval.json"
trifocal add "$WORK/own" --library "$WORK/library" --encoder "$WORK/run/model"
"$PYTHON" -m trifocal.bench.own_videos "$WORK/own" --library "$WORK/library" --work "$WORK/found" --out "$OUT/results.json"
