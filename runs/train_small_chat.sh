#!/usr/bin/env bash
# Train the small chat model's projector and low-rank changes, judge them, and put them into the package if they are
# better than chance and than the language model without the video. On two idle cores: at most two hours.
#
#   runs/train_small_chat.sh FOLDER [STEPS]
#
# Everything that is made lies in FOLDER, and the run goes on where it was stopped.
set -euo pipefail
folder="${1:?Give a folder for the data and the run.}"
steps="${2:-1200}"
python="${PYTHON:-python}"
mkdir -p "$folder"
made() { "$python" -m trifocal.bench.small_chat_data "$folder/$1" "${@:2}"; }
# Splits of different seeds share no video: those called held are judged on and never trained on.
long=(--frames 64 --shortest 60 --longest 120)
made train --count 800 --seed 24
made long-a --count 50 --seed 34 "${long[@]}"
made long-b --count 50 --seed 35 "${long[@]}"
made held --count 150 --seed 12
made held-long --count 50 --seed 13 "${long[@]}"
"$python" -m trifocal.bench.small_chat_train "$folder/train" "$folder/long-a" "$folder/long-b" \
  --out "$folder/run" --steps "$steps"
"$python" -m trifocal.bench.small_chat_eval "$folder/run" --data "$folder/held" --out "$folder/eval" --videos 60 --ship
"$python" -m trifocal.bench.ask_budget "$folder/held" --weights shipped --out "$folder/budget" --videos 24 --questions 12
# Long videos: what 256 of 1,024 tokens tell when they are merged from 64 frames, and when they are 16 whole frames.
"$python" -m trifocal.bench.ask_budget "$folder/held-long" --weights shipped --out "$folder/budget-long" \
  --videos 24 --questions 12 --budgets 0.25
