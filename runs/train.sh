#!/usr/bin/env bash
# Trains the model of a config, every stage that it has, in order. Interrupted, it goes on where it stopped when called again.
#
#   runs/train.sh CONFIG HR_FOLDER [WORK]
#
# HR_FOLDER holds the training pictures; WORK, by default trained/ and the config's name, gets everything that is made.
# Needs the packages of `pip install 'classsr[train]'`.
#
#   CLASSSR          the command, "classsr" by default; "python -m classsr" works too
#   PAIRS            the folder of packed pairs, WORK/pairs by default; several models can share one
#   OMP_NUM_THREADS  processor threads, all by default
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage="runs/train.sh CONFIG HR_FOLDER [WORK]"
config=${1:?Expected the config of a model: $usage}
hr=${2:?Expected the folder of training pictures: $usage}
name=$(basename "$config" .toml)
work=${3:-$root/trained/$name}
pairs=${PAIRS:-$work/pairs}
run=$work/run
mkdir -p "$work"

classsr() {
    # shellcheck disable=SC2086 # the command may be several words
    command ${CLASSSR:-classsr} "$@"
}

# Make LR and HR of every picture and of its shrunk copies, unless an earlier call did.
if [[ ! -e $pairs/pairs.json ]]; then
    classsr data pack "$hr" "$pairs" --config "$config"
fi

# Train the network that ranks the patches.
classsr train reference "$config" --pairs "$pairs" --run "$run"

# Rank all patches by PSNR and cut them into classes.
classsr train rank "$config" --pairs "$pairs" --run "$run"

# Stage 1: train each branch on the patches of its class, the easiest first.
classsr train branch "$config" --pairs "$pairs" --run "$run"

# Stage 2: train the Class-Module, the branches frozen.
classsr train classifier "$config" --pairs "$pairs" --run "$run"

# Stage 3: train everything together.
classsr train joint "$config" --pairs "$pairs" --run "$run"

# Last: train a Class-Module that predicts errors, by which budgets are met.
classsr train errors "$config" --pairs "$pairs" --run "$run"

# Turn the result into a released model.
classsr export "$run/errors/calibrated.safetensors" "$work/$name"

echo "The model is $work/$name; use it with: classsr upscale PICTURE --model $work/$name"
