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
# Two seeds share no video: the second split is judged on and never trained on.
"$python" -m trifocal.bench.small_chat_data "$folder/train" --count 800 --seed 24
"$python" -m trifocal.bench.small_chat_data "$folder/held" --count 150 --seed 12
"$python" -m trifocal.bench.small_chat_train "$folder/train" --out "$folder/run" --steps "$steps"
"$python" -m trifocal.bench.small_chat_eval "$folder/run" --data "$folder/held" --out "$folder/eval" --videos 60 --ship
"$python" -m trifocal.bench.ask_budget "$folder/held" --weights shipped --out "$folder/budget" --videos 40
