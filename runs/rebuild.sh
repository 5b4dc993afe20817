#!/usr/bin/env bash
# Trains a released model again from the pictures, in all the parts that its card names, with their seeds.
#
#   runs/rebuild.sh compact-x4|compact-x2|fsrcnn-x4|carn-x4 HR_FOLDER
#
# The parts lie in trained/ by the names of their configs, the model in trained/released/. Interrupted, it goes on where it
# stopped when called again.
set -euo pipefail

usage="runs/rebuild.sh compact-x4|compact-x2|fsrcnn-x4|carn-x4 HR_FOLDER"
model=${1:?Expected the name of a released model: $usage}
hr=$(realpath "${2:?Expected the folder of training pictures: $usage}")
cd "$(dirname "${BASH_SOURCE[0]}")/.." # configs name where they go on from, as trained/...
case $model in
    compact-x4) parts=(compact-x4 compact-x4-2 compact-x4-3 compact-x4-4 compact-x4-5 compact-x4-6 compact-x4-7 compact-x4-8) halos=2,2,3,4,4 ;;
    compact-x2) parts=(compact-x4 compact-x2 compact-x2-2 compact-x2-3 compact-x2-4 compact-x2-5 compact-x2-6 compact-x2-7) halos=2,2,3,4,4 ;;
    fsrcnn-x4) parts=(fsrcnn-x4 fsrcnn-x4-2 fsrcnn-x4-3 fsrcnn-x4-4) halos=2,2,4 ;;
    carn-x4) parts=(carn-x4 carn-x4-2 carn-x4-3 carn-x4-4 carn-x4-5 carn-x4-6 carn-x4-7) halos=2,3,3,4 ;;
    *) echo "$usage" >&2 && exit 2 ;;
esac

classsr() {
    # shellcheck disable=SC2086 # the command may be several words
    command ${CLASSSR:-classsr} "$@"
}

# Train the parts in order; each goes on from the branches of the one before.
for part in "${parts[@]}"; do
    runs/train.sh "configs/$part.toml" "$hr"
done

# Release the end of the last, with the halos that were chosen by measurement.
classsr export "trained/$part/run/errors/calibrated.safetensors" "trained/released/$model" --name "$model" --halo "$halos"
