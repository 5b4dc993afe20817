#!/usr/bin/env bash
# Goes through everything once, from pictures to an enlarged picture, in a minute or two: if this passes, a real run will not
# fall over after hours. The model that it makes is of no use.
#
#   runs/smoke.sh [FOLDER_OF_PICTURES]
#
# Without a folder it cuts its own pictures from examples/. In a folder of yours every picture should have easy and hard parts,
# because one is held out and each level is validated on it. Needs the packages of `pip install 'classsr[train]'`.
#
#   CLASSSR  the command, "classsr" by default; "python -m classsr" works too
#   PYTHON   the interpreter that cuts the pictures, "python3" by default
#   WORK     the folder to work in, a new one in the system's folder for temporary files by default
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=$root/configs/smoke.toml
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
# On a machine with other work two threads wait for each other: 255 s instead of 70.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

classsr() {
    # shellcheck disable=SC2086 # the command may be several words
    command ${CLASSSR:-classsr} "$@"
}

hr=${1:-$work/hr}
if [[ $# -eq 0 ]]; then
    # Turn and mirror the example: four pictures, all with sky, sea and trees.
    "${PYTHON:-python3}" - "$root/examples" "$hr" <<'EOF'
import sys
from pathlib import Path

from PIL import Image, ImageOps

source, target = map(Path, sys.argv[1:])
target.mkdir(exist_ok=True)
picture = Image.open(next(source.glob("*.jpg"))).convert("RGB")
picture.thumbnail((640, 640))
for name, change in (
    ("upright", ImageOps.exif_transpose),
    ("mirrored", ImageOps.mirror),
    ("flipped", ImageOps.flip),
    ("turned", lambda picture: picture.rotate(180)),
):
    change(picture).save(target / f"{name}.png")
EOF
fi

# Make LR and HR of every picture and of its shrunk copies.
classsr data pack "$hr" "$work/pairs"

# Train the network that ranks the patches.
classsr train reference "$config" --pairs "$work/pairs" --run "$work/run"

# Rank the patches and cut them into three classes.
classsr train rank "$config" --pairs "$work/pairs" --run "$work/run"

# Stage 1: train each branch on the patches of its class, the easiest first.
classsr train branch "$config" --pairs "$work/pairs" --run "$work/run"

# Stage 2: train the Class-Module, the branches frozen.
classsr train classifier "$config" --pairs "$work/pairs" --run "$work/run"

# Stage 3: train everything together.
classsr train joint "$config" --pairs "$work/pairs" --run "$work/run"

# Last: train a Class-Module that predicts errors, by which budgets are met.
classsr train errors "$config" --pairs "$work/pairs" --run "$work/run"

# Turn the result into a released model.
classsr export "$work/run/errors/calibrated.safetensors" "$work/model" --name smoke

# Enlarge the first picture with it.
picture=$(find "$hr" -type f | sort | sed -n 1p)
classsr upscale "$picture" --model "$work/model" -o "$work/enlarged.png" --overwrite

# Measure it on all pictures.
classsr evaluate --hr "$hr" --model "$work/model"

echo "Everything works. The enlarged picture is $work/enlarged.png, the model $work/model; delete $work when you like."
