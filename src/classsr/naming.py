"""What public research code calls the layers of our networks, and how other code spells that; tables, no weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Naming:
    """What the research code calls the layers of one network.

    Attributes:
        entry: its first layer, which the network is recognised by and whose outputs are its width.
        layers: our name of every layer -> its name.
        up: the layers that enlarge in turn, in its names; the scale is read off them.
        counts: what it repeats -> a regular expression whose group numbers the repetitions.
        spellings: names in other code, as regular expressions -> its names.

    """

    entry: str
    layers: dict[str, str]
    up: tuple[str, str] | None = None
    counts: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)


CLASSIFIER = {f"features.{k}": f"CondNet.{k}" for k in range(0, 9, 2)} | {"head": "lastOut"}

FSRCNN = Naming(
    entry="head_conv.0",
    layers={
        "extract": "head_conv.0",
        "extract_act": "head_conv.1",
        "shrink": "body_conv.0.0",
        "shrink_act": "body_conv.0.1",
        **{f"mapping.{k}": f"body_conv.{k + 1}" for k in range(4)},
        "mapping_act": "body_conv.5",
        "expand": "body_conv.6.0",
        "expand_act": "body_conv.6.1",
        "upsample": "tail_conv",
    },
    counts={"mapping layers, PReLU included,": r"body_conv\.(\d+)\.(?:weight|bias)"},
)

# The three cascades lie inside a fourth, whose layers have no prefix.
CARN_CASCADES = {"body": ""} | {f"body.blocks.{k}": f"b{k + 1}." for k in range(3)}
CARN = Naming(
    entry="entry",
    layers={
        "sub_mean": "sub_mean",
        "entry": "entry",
        **{
            f"{ours}.fusions.{k}.{layer}": f"{theirs}c{k + 1}.{place}"
            for ours, theirs in CARN_CASCADES.items()
            for k in range(3)
            for place, layer in enumerate(("conv", "norm"))
        },
        **{
            f"body.blocks.{k}.blocks.0.{layer}": f"b{k + 1}.b1.body.{layer}"
            for k in range(3)
            for layer in (0, 2, 4)
        },
        **{f"upsample.{k}": f"upsample.up.body.{k}" for k in (0, 3)},
        "exit": "exit",
        "add_mean": "add_mean",
    },
    up=("upsample.up.body.0", "upsample.up.body.3"),
    spellings={  # of Ahn et al. and its descendants
        r"^(sub_mean|add_mean)\.shifter\.": r"\1.",
        r"^((?:b\d\.)?c\d)(?:\.body\.0|\.conv)?\.(weight|bias)$": r"\1.0.\2",
    },
)

SRRESNET = Naming(
    entry="conv_first",
    layers={
        "entry": "conv_first",
        **{
            f"trunk.{block}.{2 * k}": f"recon_trunk.{block}.conv{k + 1}"
            for block in range(16)
            for k in range(2)
        },
        "upsample.0": "upconv1",
        "upsample.3": "upconv2",
        "refine": "HRconv",
        "exit": "conv_last",
    },
    up=("upconv1", "upconv2"),
    counts={"blocks": r"recon_trunk\.(\d+)\.conv1\."},
    spellings={r"^body\.": "recon_trunk.", r"^conv_hr\.": "HRconv."},  # of BasicSR
)


def _rcan(groups: int, blocks: int) -> Naming:
    attention = {"squeeze": "conv_du.0", "excite": "conv_du.2"}
    block = {"0": "0", "2": "2"} | {f"3.{ours}": f"3.{name}" for ours, name in attention.items()}
    return Naming(
        entry="head.0",
        layers={
            "sub_mean": "sub_mean",
            "head": "head.0",
            **{
                f"body.{g}.{b}.{ours}": f"body.{g}.body.{b}.body.{theirs}"
                for g in range(groups)
                for b in range(blocks)
                for ours, theirs in block.items()
            },
            **{f"body.{g}.{blocks}": f"body.{g}.body.{blocks}" for g in range(groups)},
            f"body.{groups}": f"body.{groups}",
            "upsample.0": "tail.0.0",
            "upsample.2": "tail.0.2",
            "tail": "tail.1",
            "add_mean": "add_mean",
        },
        up=("tail.0.0", "tail.0.2"),
        counts={
            "groups": r"body\.(\d+)\.body\.",
            "blocks in a group": r"body\.\d+\.body\.(\d+)\.body\.",
        },
    )


NAMINGS = {
    "fsrcnn": FSRCNN,
    "carn": CARN,
    "srresnet": SRRESNET,
    "rcan": _rcan(groups=10, blocks=20),
}


def theirs(name: str, layers: Mapping[str, str]) -> str:
    """Return what the research code calls one of our weights."""
    layer, _, leaf = name.rpartition(".")
    return f"{layers[layer]}.{leaf}"
