#!/usr/bin/env bash
# Trains the bundled model fsrcnn-x4, every stage in order. Interrupted, it goes on where it stopped when called again.
#
#   runs/fsrcnn-x4.sh HR_FOLDER [WORK]
#
# HR_FOLDER holds the training pictures; WORK, by default trained/fsrcnn-x4, gets everything that is made. Needs the packages of
# `pip install 'classsr[train]'`; CLASSSR names the command, "classsr" by default.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=$root/configs/fsrcnn-x4.toml
hr=${1:?Expected the folder of training pictures: runs/fsrcnn-x4.sh HR_FOLDER [WORK]}
work=${2:-$root/trained/fsrcnn-x4}
mkdir -p "$work"

classsr() {
    # shellcheck disable=SC2086 # the command may be several words
    command ${CLASSSR:-classsr} "$@"
}

# Make LR and HR of every picture and of its copies shrunk by 0.9 to 0.6, unless an earlier call did.
if [[ ! -e $work/pairs/pairs.json ]]; then
    classsr data pack "$hr" "$work/pairs"
fi

# Train the network that ranks the patches.
classsr train reference "$config" --pairs "$work/pairs" --run "$work/run"

# Rank all patches by PSNR and cut them into three equal classes.
classsr train rank "$config" --pairs "$work/pairs" --run "$work/run"

# Stage 1: train the branch of the easy patches, FSRCNN-16.
classsr train branch "$config" --level 0 --pairs "$work/pairs" --run "$work/run"

# Stage 1: train the branch of the middle patches, FSRCNN-36.
classsr train branch "$config" --level 1 --pairs "$work/pairs" --run "$work/run"

# Stage 1: train the branch of the hard patches, FSRCNN-56.
classsr train branch "$config" --level 2 --pairs "$work/pairs" --run "$work/run"

# Stage 2: train the Class-Module, the branches frozen.
classsr train classifier "$config" --pairs "$work/pairs" --run "$work/run"

# Stage 3: train everything together.
classsr train joint "$config" --pairs "$work/pairs" --run "$work/run"

# Turn the end of stage 3 into a released model; its best PSNR may stand where too much went to the hardest level.
classsr export "$work/run/joint/last.safetensors" "$work/fsrcnn-x4"

echo "The model is $work/fsrcnn-x4; use it with: classsr upscale PICTURE --model $work/fsrcnn-x4"
