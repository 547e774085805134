#!/usr/bin/env bash
# Fill the tables of the token merging paper with published checkpoints and benchmark files that you have.
#
#   DATA=/data/benchmarks MODEL=llava-hf/llava-onevision-qwen2-7b-ov-hf FAMILY=onevision runs/reproduce_ask.sh OUT [BENCHMARK ...]
#
# DATA holds a folder per benchmark with `annotations` (a folder, or a file with its ending: annotations.json,
# annotations.parquet, annotations.csv, as published) and `videos`:
#   vnbench videomme egoschema nextqa longvideobench mlvu
# FAMILY chooses the published thresholds, frames, layer and scaling of positions: video (LLaVA-Video-7B), onevision
# (LLaVA-OneVision-7B), qwen2vl (Qwen2-VL-7B), video72 (LLaVA-Video-72B). DTYPE (bfloat16), DEVICE (a GPU where there is
# one) and DEVICE_MAP (`auto` for video72) say where the model runs; LIMIT takes the first so many questions only.
# Each run goes on where it was interrupted; OUT gets BENCHMARK.md with the table and BENCHMARK.png with the plot.
# Accuracy of real checkpoints has not been measured by this project; compare with the paper's tables yourself.
set -euo pipefail

if [ $# -lt 1 ] || [ -z "${DATA:-}" ] || [ -z "${MODEL:-}" ] || [ -z "${FAMILY:-}" ]; then
  sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
OUT=$1
shift
TRIFOCAL=${TRIFOCAL:-trifocal}

# Published (spatial, temporal) thresholds at 50 % and 30 %, root level 1, unweighted; `-` where the paper has no row.
thresholds() {
  case "$FAMILY/$1" in
    video/vnbench) echo ".85 .65 .80 .60" ;;
    video/videomme) echo ".85 .55 .80 .50" ;;
    video/egoschema) echo ".85 .55 .80 .60" ;;
    video/nextqa) echo ".85 .65 .80 .65" ;;
    video/longvideobench) echo ".85 .60 .80 .55" ;;
    video/mlvu) echo ".85 .55 .80 .55" ;;
    onevision/vnbench) echo ".90 .65 .85 .65" ;;
    onevision/videomme) echo ".85 .65 .85 .55" ;;
    onevision/egoschema) echo ".90 .60 .85 .60" ;;
    onevision/nextqa) echo ".95 .65 .90 .60" ;;
    onevision/longvideobench) echo ".90 .60 .85 .60" ;;
    onevision/mlvu) echo ".90 .55 .85 .60" ;;
    qwen2vl/vnbench) echo ".80 .65 .75 .50" ;;
    qwen2vl/videomme) echo ".85 .60 .80 .60" ;;
    qwen2vl/longvideobench) echo ".85 .65 .80 .60" ;;
    video72/videomme) echo ".94 .82 .90 .90" ;;
    *) echo "-" ;;
  esac
}

# Frames as published. 180 frames of LLaVA are 35,280 tokens, more than its positions, which are scaled for them.
# Qwen2-VL counts positions by frames, so its prompts may be longer than the number of its positions.
frames() {
  case "$FAMILY/$1" in
    qwen2vl/vnbench) echo "--fps 2 --max-frames 360 --context 200000" ;;
    qwen2vl/*) echo "--fps 2 --max-frames 256 --context 200000" ;;
    */vnbench) echo "--fps 1 --max-frames 180 --rope-factor 2" ;;
    *) echo "--fps 1 --max-frames 128" ;;
  esac
}

# The one file or folder of annotations, whatever its ending.
annotations() {
  local found=("$DATA/$1"/annotations*)
  if [ ${#found[@]} -ne 1 ] || [ ! -e "${found[0]}" ]; then
    echo "there must be one file or folder $DATA/$1/annotations*; found: ${found[*]}" >&2
    return 1
  fi
  echo "${found[0]}"
}

LAYER=2
case "$FAMILY" in
  video | onevision | qwen2vl) ;;
  video72) LAYER=0 DEVICE_MAP=${DEVICE_MAP:-auto} ;;
  *)
    echo "FAMILY is $FAMILY; it is video, onevision, qwen2vl or video72" >&2
    exit 2
    ;;
esac
BENCHMARKS=("$@")
[ ${#BENCHMARKS[@]} -gt 0 ] || BENCHMARKS=(vnbench videomme egoschema nextqa longvideobench mlvu)

for name in "${BENCHMARKS[@]}"; do
  read -r -a t <<<"$(thresholds "$name")"
  if [ "${t[0]}" = - ]; then
    echo "no published thresholds for $FAMILY on $name; left out" >&2
    continue
  fi
  read -r -a shown <<<"$(frames "$name")"
  given=$(annotations "$name")
  common=(eval ask --benchmark "$name" --annotations "$given" --videos "$DATA/$name/videos" --model "$MODEL"
    --layer "$LAYER" --dtype "${DTYPE:-bfloat16}" "${shown[@]}" --out "$OUT")
  [ -z "${DEVICE:-}" ] || common+=(--device "$DEVICE")
  [ -z "${DEVICE_MAP:-}" ] || common+=(--device-map "$DEVICE_MAP")
  [ -z "${LIMIT:-}" ] || common+=(--limit "$LIMIT")
  for at in 0 2; do # as published, decisions and positions included
    "$TRIFOCAL" "${common[@]}" --method none --method sttm --option spatial_threshold="${t[$at]}" \
      --option temporal_threshold="${t[$((at + 1))]}" --option compat=reference
  done
  # Rivals and the default at the paper's budgets; with them the table and the plot of all that was run.
  "$TRIFOCAL" "${common[@]}" --method sttm --method tome --method dycoke --method uniform --method random \
    --budget 0.5 --budget 0.3 --plot "$OUT/$name.png" | tee "$OUT/$name.md"
done
