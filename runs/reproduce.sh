#!/usr/bin/env bash
# Trains ClassSR with every backbone, as in the paper's tables or as far as two CPU cores get, and measures each.
#
#   runs/reproduce.sh paper|cpu HR_FOLDER TEST_FOLDER [WORK]
#
# HR_FOLDER holds the training pictures (the paper: DIV2K), TEST_FOLDER the HR pictures to measure on (the paper:
# Test2K, Test4K, Test8K from DIV8K). Interrupted, it goes on where it stopped when called again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage="runs/reproduce.sh paper|cpu HR_FOLDER TEST_FOLDER [WORK]"
kind=${1:?Expected paper or cpu: $usage}
hr=${2:?Expected the folder of training pictures: $usage}
test=${3:?Expected the folder of test pictures: $usage}
work=${4:-$root/trained/$kind}
case $kind in
    paper) configs=$root/configs/paper suffix="" ;;
    cpu) configs=$root/configs suffix=-x4 ;;
    *) echo "$usage" >&2 && exit 2 ;;
esac
export PAIRS=$work/pairs # made by the first model, shared by all whose configs ask for the same

classsr() {
    # shellcheck disable=SC2086 # the command may be several words
    command ${CLASSSR:-classsr} "$@"
}

# FSRCNN 16/36/56: table 3, first rows.
"$root/runs/train.sh" "$configs/fsrcnn$suffix.toml" "$hr" "$work/fsrcnn"
classsr evaluate --hr "$test" --protocol paper --model "$work/fsrcnn/fsrcnn$suffix"

# CARN-M 36/52/64. For two cores without a ranking and stages 2 and 3, from pairs of its own: more copies, and drawn pictures.
carn_pairs=$PAIRS
[[ $kind == cpu ]] && carn_pairs=$work/carn/pairs
PAIRS=$carn_pairs "$root/runs/train.sh" "$configs/carn$suffix.toml" "$hr" "$work/carn"
classsr evaluate --hr "$test" --protocol paper --model "$work/carn/carn$suffix"

# MSRResNet 36/52/64.
"$root/runs/train.sh" "$configs/srresnet$suffix.toml" "$hr" "$work/srresnet"
classsr evaluate --hr "$test" --protocol paper --model "$work/srresnet/srresnet$suffix"

# RCAN 36/50/64.
"$root/runs/train.sh" "$configs/rcan$suffix.toml" "$hr" "$work/rcan"
classsr evaluate --hr "$test" --protocol paper --model "$work/rcan/rcan$suffix"

# Our compact 16x6/32x8/64x12, which is not in the paper.
"$root/runs/train.sh" "$configs/compact$suffix.toml" "$hr" "$work/compact"
classsr evaluate --hr "$test" --protocol paper --model "$work/compact/compact$suffix"
