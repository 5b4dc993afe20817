"""One TOML file per experiment, for all stages. An unknown or missing key is an error."""

import difflib
import math
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from classsr.data.pairs import SHRINKS
from classsr.data.patches import LR_PATCH
from classsr.errors import UsageError
from classsr.networks import BranchSpec
from classsr.networks.branch import sizes

Positive = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RankingConfig(_Section):
    """Where the classes are cut; equal classes by default, as in the paper."""

    shares: tuple[Annotated[float, Field(gt=0)], ...] | None = None  # by level, the easiest first
    borders: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = None  # PSNR in dB

    @model_validator(mode="after")
    def _one_of_them_in_order(self) -> Self:
        if self.shares is not None and self.borders is not None:
            raise ValueError("expected shares or borders but got both")
        if self.shares is not None and not math.isclose(sum(self.shares), 1, abs_tol=1e-6):
            raise ValueError(f"expected shares that sum to 1 but got {sum(self.shares):g}")
        if self.borders is not None and any(b >= a for a, b in pairwise(self.borders)):
            raise ValueError(f"expected borders that fall but got {list(self.borders)}")
        return self


class BranchConfig(_Section):
    """A branch: which network, and the sizes that it has."""

    network: str
    width: Annotated[int, Field(ge=4)] | None = None
    depth: Positive | None = None

    def spec(self, scale: int) -> BranchSpec:
        """Return the sizes that build the branch."""
        return BranchSpec(self.network, self.width, scale, self.depth)


class ModelConfig(_Section):
    """The levels, easiest first."""

    scale: Literal[2, 3, 4]
    branches: Annotated[tuple[BranchConfig, ...], Field(min_length=2, max_length=8)]

    def specs(self) -> tuple[BranchSpec, ...]:
        """Return the sizes that build the branches."""
        return tuple(branch.spec(self.scale) for branch in self.branches)


class DataConfig(_Section):
    """How pairs are made of the pictures, and divided."""

    shrinks: Annotated[tuple[Annotated[float, Field(gt=0, le=2)], ...], Field(min_length=1)] = (
        SHRINKS  # the copies of every picture; 1 is the picture itself, above it its enlarged middle
    )
    grain: Annotated[float, Field(gt=1, le=2)] | None = (
        None  # the factor of one more copy, the middle enlarged so much, with noise as in large photographs
    )
    drawn: Annotated[int, Field(ge=0)] = 0  # pages, charts, screens and drawings besides
    validation_pictures: Positive  # held out of training, with all their shrunk copies
    validation_patches: Positive = 1024  # at most so many of theirs are measured
    classifier_patches: Positive | None = (
        None  # at most so many, evenly spread, for stage 2; all by default
    )


class Schedule(_Section):
    """One stage's optimisation: the learning rate falls as a half cosine.

    "adam" is the paper's, with betas (0.9, 0.99). "soap" (Vyas et al., ICLR 2025) is Adam in the slowly turning basis
    of the gradients' second moments: FSRCNN needs about a tenth of the iterations (docs/log.md).
    """

    optimizer: Literal["adam", "soap"] = "adam"
    iterations: Positive
    batch: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-7
    validate_every: Positive = 2000
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    clip_norm: Annotated[float, Field(gt=0)] | None = None  # largest norm of the whole gradient
    ema: Annotated[float, Field(gt=0, lt=1)] | None = (
        None  # decay of a running average of the weights
    )
    norms: Literal["batch", "fixed"] = (
        "batch"  # what BatchNorm subtracts and divides by: the batch's, or as it is at test time
    )


class BranchSchedule(Schedule):
    """Stage 1 of a branch: besides its schedule what it learns from, and where it starts."""

    iterations: Annotated[int, Field(ge=0)]  # 0: as it is in `start`
    patches: Literal["class", "all", "routed"] = (
        "class"  # those of its level, as in the paper; all; or those that `start` runs there
    )
    patch_size: Annotated[int, Field(ge=16)] = LR_PATCH  # LR pixels; another not with "class"
    start: str | None = None  # a checkpoint or released model that has this branch, for any scale
    loss: Literal["l1", "l2", "rmse"] = (
        "l1"  # l1 as in the paper; rmse, the mean of every patch's, is the best late (docs/log.md)
    )
    teacher: str | None = (
        None  # a checkpoint or released model whose hardest branch takes the place of HR
    )
    round_weights: bool = False  # saves the weights as bf16 runs them (docs/training.md)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.start is None and (self.iterations == 0 or self.patches == "routed"):
            raise ValueError("expected start beside iterations = 0 and patches = 'routed'")
        if self.patches == "routed" and self.patch_size < LR_PATCH:
            raise ValueError(
                f"expected patches of {LR_PATCH} LR pixels or more but got {self.patch_size}"
            )
        if self.patches == "class" and self.patch_size != LR_PATCH:
            raise ValueError(
                f"expected patches of {LR_PATCH} LR pixels, as they are ranked, or patches = 'all' "
                f"but got {self.patch_size}"
            )
        if self.round_weights and self.precision != "bf16-mixed":
            raise ValueError("expected precision = 'bf16-mixed' beside round_weights")
        return self


class LossWeights(_Section):
    """Weights of stages two and three: the paper's 2000, 1 and 6 by default."""

    l1: float = 2000.0
    class_loss: float = 1.0
    average_loss: float = 6.0


class ReferenceConfig(_Section):
    """The network that ranks the patches; trained on all of them."""

    branch: BranchConfig
    schedule: Schedule


class RoutedConfig(_Section):
    """Stage 3 on the routed output instead of the mixture: each branch learns from what it is given at test time.

    The Class-Module stays as stage 2 leaves it, but for `margin`: the log-odds by which an easier level must lead the
    hardest.
    """

    margin: Annotated[float, Field(ge=0)] = 0.0


class ErrorsConfig(_Section):
    """The last stage: by what errors are predicted.

    "log-errors" is a Class-Module of its own, trained on what the branches get wrong; "calibration" keeps the paper's
    and notes what every branch gets wrong on what it calls which level.
    """

    predict: Literal["log-errors", "calibration"] = "log-errors"
    schedule: Schedule = Schedule(
        optimizer="soap",
        iterations=6_000,
        batch=256,
        learning_rate=3e-3,
        validate_every=1_000,
        precision="32-true",
    )
    pictures: Positive | None = (
        None  # learn from at most so many, shrunk copies counted, evenly spread; all by default
    )
    bicubic: bool = (
        True  # with log-errors: whether plain bicubic becomes level 0, before all branches
    )


def _as_list(table: object) -> object:
    """Let a single [branch] stand for an array of tables with one entry."""
    return [table] if isinstance(table, dict) else table


class Config(_Section):
    """A whole experiment; a stage whose section is missing is left out."""

    name: str
    seed: int
    model: ModelConfig
    data: DataConfig
    ranking: RankingConfig = RankingConfig()
    reference: ReferenceConfig | None = None
    branch: Annotated[
        tuple[BranchSchedule, ...], BeforeValidator(_as_list)
    ]  # for all, or one per level
    classifier: Schedule | None = None
    joint: Schedule | None = None
    loss: LossWeights = LossWeights()
    routed: RoutedConfig | None = None  # the paper's stage 3 by default
    errors: ErrorsConfig = ErrorsConfig()
    on_collapse: Literal["mend", "stop"] = "mend"

    @model_validator(mode="after")
    def _one_schedule_per_level(self) -> Self:
        levels = len(self.model.branches)
        if len(self.branch) not in {1, levels}:
            raise ValueError(f"expected one [branch] or {levels} but got {len(self.branch)}")
        return self

    @model_validator(mode="after")
    def _stages_have_what_they_go_on_from(self) -> Self:
        if self.classifier is None and self.joint is not None:
            raise ValueError("expected [classifier] beside [joint], which goes on from it")
        if self.classifier is None and self.errors.predict == "calibration":
            raise ValueError("expected [classifier], which predict = 'calibration' keeps")
        return self

    @model_validator(mode="after")
    def _classes_for_all_levels(self) -> Self:
        levels = len(self.model.branches)
        shares, borders = self.ranking.shares, self.ranking.borders
        if shares is not None and len(shares) != levels:
            raise ValueError(f"expected {levels} shares in [ranking] but got {len(shares)}")
        if borders is not None and len(borders) != levels - 1:
            raise ValueError(f"expected {levels - 1} borders in [ranking] but got {len(borders)}")
        return self

    def branch_schedule(self, level: int) -> BranchSchedule:
        """Return the schedule of one level's branch."""
        return self.branch[level if len(self.branch) > 1 else 0]


def _known_keys(model: type[BaseModel], found: set[str]) -> set[str]:
    for name, field in model.model_fields.items():
        found.add(name)
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                _known_keys(inner, found)
    return found


def _explain(exc: ValidationError) -> str:
    """Turn one of pydantic's complaints into a sentence; an unknown key often explains a missing one."""
    complaints = exc.errors()
    first = next((c for c in complaints if c["type"] == "extra_forbidden"), complaints[0])
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"the key {place!r} is missing"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(Config, set()), n=1)
        return f"the key {place!r} is unknown" + (f" (did you mean {near[0]!r}?)" if near else "")
    message = first["msg"].removeprefix("Value error, ")
    return f"{place!r} is wrong: {message}" if place else message


def load_config(path: Path) -> Config:
    """Read and check an experiment.

    Raises:
        UsageError: the file is missing or no TOML, a key is unknown or missing, or a value is out of range.

    """
    try:
        config = Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise UsageError(f"Cannot read the config {path} ({exc.strerror}).") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is no TOML file ({exc}).") from exc
    except ValidationError as exc:
        raise UsageError(f"In {path}, {_explain(exc)}.") from exc
    reference = [] if config.reference is None else [config.reference.branch]
    for branch in (*config.model.branches, *reference):
        try:
            sizes(branch.spec(config.model.scale))
        except UsageError as exc:
            raise UsageError(f"In {path}: {exc}") from exc
    return config
