"""From a goal to a plan: which tiles, at which level, in which blocks and bands, and whether routing pays at all.

Every tile has a predicted error at every level, every level a measured cost. One price, the error that a unit of cost
must save, decides all tiles of a picture; it is sought until the budget or the loss is met.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from classsr.errors import UsageError
from classsr.plan import USUAL, Band, Costs, Group, bands, cover, levels_run, merge, spent
from classsr.prices import PRICES, Errors, price_of, total
from classsr.tiles import TileGrid

LARGEST = (
    16  # tiles to a side of a block where one level serves all; the whole at once is hardly faster
)
BAND_PIXELS = 2**21  # LR pixels in a band as a rule: 100 MB of the enlarged picture in 8 bits
MOST_PIXELS = 2**22  # at most, where the largest blocks ask for more
TRIES = 8  # plans made for one picture at most, to spend a budget
FEWER = 4  # to meet a loss: of a small picture another plan saves less than making it takes
WORTH = 0.6  # of the hardest level's cost: where the easiest costs more, nothing is judged
PLANNING = 0.005  # seconds that seeking a plan takes for a small picture (docs/log.md)
SPARE = 0.03  # of a budget that may be left over
NEAR = 0.002  # dB of a loss that may be left over, and besides
NEARLY = 0.05  # of it
STEP = 0.2  # of the logarithm of the price, doubled until the goal lies between two plans
CLOSE = 0.05  # of the cost of a plan: one that costs so little less needs no other between them


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Args:
        grid: where the tiles lie.
        bands: from top to bottom.
        levels: at which every tile is run (rows, columns).
        costs: by which it was made.
        cost: what it is expected to cost, the Class-Module included, in the unit of the costs.
        cost_hardest: what the hardest branch everywhere costs, in the tiles that suit it best.
        loss: PSNR lost against that as predicted, in dB; None where nothing predicts it.
        judged: how many tiles the Class-Module has judged for it.
        reason: why it is this plan, in one sentence.

    """

    grid: TileGrid
    bands: tuple[Band, ...]
    levels: NDArray[np.int64]
    costs: Costs
    cost: float
    cost_hardest: float
    loss: float | None
    judged: int
    reason: str

    @property
    def share(self) -> float:
        """Cost as a share of what the hardest branch everywhere costs."""
        return self.cost / self.cost_hardest


class _Offer(NamedTuple):
    """To run a block at a harder level: error saved per cost, which block, which level, cost, and error saved."""

    bargain: float
    number: int
    harder: int
    more: float
    gain: float


class Planner:
    """Makes the plans of one picture.

    Args:
        height: of the picture in LR pixels.
        width: of the picture in LR pixels.
        tile: side of a tile that is judged, in LR pixels.
        costs: of the model's levels and its Class-Module.

    """

    def __init__(self, height: int, width: int, *, tile: int, costs: Costs) -> None:
        self.grid = TileGrid(height, width, tile=tile, step=tile)
        self.rows = bands(self.grid, BAND_PIXELS, most=MOST_PIXELS)
        self._costs = costs
        self._hardest = len(costs.levels) - 1
        self._judging = len(self.grid) * costs.classifier
        usual = self.grid.window(USUAL, USUAL)
        self._alone = np.array([cost.window(*usual) / USUAL**2 for cost in costs.levels])
        self.cost_hardest = self.one_level(self._hardest, "").cost

    @property
    def may_pay(self) -> bool:
        """Whether routing would save much if all tiles were as easy as can be; else judging them is seldom repaid."""
        planning = PLANNING if self._costs.unit == "s" else 0.0
        cheapest = planning + self._judging + self.one_level(0, "").cost
        return cheapest <= WORTH * self.cost_hardest

    def one_level(self, level: int, reason: str) -> Plan:
        """Plan one level for all, in as few and equal blocks as memory allows, without the Class-Module."""
        rows, columns = self.grid.shape
        high = min(LARGEST, max(MOST_PIXELS // (self.grid.tile * self.grid.width), 1))
        found = []
        for tops in np.array_split(np.arange(rows), math.ceil(rows / high)):
            members: dict[tuple[int, int], list[tuple[int, ...]]] = {}
            for lefts in np.array_split(np.arange(columns), math.ceil(columns / LARGEST)):
                size = len(tops), len(lefts)
                members.setdefault(size, []).append((int(tops[0]), int(lefts[0]), *size))
            groups = tuple(Group(level, np.array(blocks)) for blocks in members.values())
            found.append(Band(range(int(tops[0]), int(tops[-1]) + 1), groups))
        levels = np.full(self.grid.shape, level, np.int64)
        cost = spent(_groups(found), self.grid, self._costs.levels)
        hardest = cost if level == self._hardest else self.cost_hardest
        loss = 0.0 if level == self._hardest else None
        return Plan(self.grid, tuple(found), levels, self._costs, cost, hardest, loss, 0, reason)

    def at_levels(self, levels: NDArray[np.int64]) -> Plan:
        """Plan tiles at these levels, or at harder ones where these cost less."""
        costs = self._costs.levels
        found = tuple(
            Band(
                rows,
                tuple(merge(levels[rows.start : rows.stop], self.grid, costs, first=rows.start)),
            )
            for rows in self.rows
        )
        return self._plan(found, "Every tile at the level that it is judged to have.")

    def if_it_pays(self, plan: Plan) -> Plan:
        """Return this plan, or the hardest level for all if that costs no more."""
        if plan.cost < self._judging + self.cost_hardest:
            return plan
        reason = "Routing would cost more than the hardest branch everywhere."
        return self._judged(self.one_level(self._hardest, reason))

    def _judged(self, plan: Plan) -> Plan:
        """Return a plan of one level for all, made after the tiles have been judged."""
        return replace(plan, cost=plan.cost + self._judging, judged=len(self.grid))

    def for_loss(self, errors: Errors, loss: float) -> Plan:
        """Plan the cheapest that loses at most so many dB against the hardest branch everywhere, as predicted."""
        weighted = self._weighted(errors)
        most = float(weighted[:, :, -1].sum()) * 10 ** (loss / 10)
        near = NEAR + NEARLY * loss
        plan, cheaper = self._search(
            weighted,
            slack=lambda plan: loss - (plan.loss or 0.0),
            near=near,
            tries=FEWER,
            rises=False,
            start=price_of(weighted, self._alone, lambda levels: total(weighted, levels) > most),
            reason=f"The cheapest that is predicted to lose at most {loss:g} dB.",
        )
        if cheaper is not None and (plan is None or loss - (plan.loss or 0.0) > near):
            raised = self._raise(cheaper, weighted, most=most)
            if (raised.loss or 0.0) <= loss and (plan is None or raised.cost < plan.cost):
                plan = raised
        for level in range(self._hardest):
            reason = f"Level {level} for all is predicted to lose at most {loss:g} dB and costs the least."
            uniform = self._with_loss(self._judged(self.one_level(level, reason)), weighted)
            if (uniform.loss or 0.0) <= loss and (plan is None or uniform.cost <= plan.cost):
                plan = uniform
        if plan is None:
            return self._judged(
                self.one_level(self._hardest, "Nothing else is predicted to lose so little.")
            )
        return self.if_it_pays(plan)

    def for_budget(self, errors: Errors, budget: float) -> Plan:
        """Plan what is predicted to be best of all that costs at most so much.

        Raises:
            UsageError: the cheapest plan costs more.

        """
        share = budget / self.cost_hardest
        weighted = self._weighted(errors)
        most = budget - self._judging
        plan, _ = self._search(
            weighted,
            slack=lambda plan: budget - plan.cost,
            near=SPARE * budget,
            tries=TRIES,
            rises=True,
            start=price_of(weighted, self._alone, lambda levels: self._alone[levels].sum() <= most),
            reason=f"The best predicted for at most {share:.3g} of what the hardest branch everywhere costs.",
        )
        if plan is None:
            plan = self.at_levels(np.zeros(self.grid.shape, np.int64))
        if plan.cost > budget:
            raise UsageError(
                f"Expected a budget of at least {math.ceil(1000 * plan.share) / 1000:g} of the hardest branch's cost "
                f"({plan.cost:.2g} s) for this picture but got {share:.3g} ({budget:.2g} s)."
            )
        return self._raise(plan, weighted, left=budget - plan.cost)

    def _weighted(self, errors: Errors) -> Errors:
        """Weight the tiles by their part of the picture, so that the sum over tiles is the picture's error."""
        height, width = (
            np.diff(np.append(np.arange(count) * self.grid.tile, side))
            for count, side in zip(
                self.grid.shape, (self.grid.height, self.grid.width), strict=True
            )
        )
        weighted: Errors = errors * np.outer(height / height.sum(), width / width.sum())[:, :, None]
        return weighted

    def _search(
        self,
        weighted: Errors,
        *,
        slack: Callable[[Plan], float],
        near: float,
        tries: int,
        rises: bool,
        start: float,
        reason: str,
    ) -> tuple[Plan | None, Plan | None]:
        """Seek the price at which `slack`, which rises or falls with it, is just not negative.

        Returns:
            The plan with the least slack that is not negative, and the one that comes nearest from the other side; None
            where there was none.

        """
        best: Plan | None = None
        missed: Plan | None = None
        inside: tuple[float, float] | None = None
        outside: tuple[float, float] | None = None
        at, step = start, STEP
        for _ in range(tries):
            plan = self._at_price(weighted, math.exp(at), reason)
            left = slack(plan)
            if left >= 0:
                inside = at, left
                if best is None or left < slack(best):
                    best = plan
                if left <= near:
                    break
            else:
                outside = at, left
                if missed is None or left > slack(missed):
                    missed = plan
            if best and missed and self._are_close(best, missed):
                break
            if inside and outside:
                part = inside[1] / (inside[1] - outside[1])
                at = inside[0] + (outside[0] - inside[0]) * min(max(part, 0.1), 0.9)
            else:
                at += step if rises != (left >= 0) else -step
                step *= 2
            if not PRICES[0] < at < PRICES[1]:
                break
        return best, missed

    def _are_close(self, best: Plan, missed: Plan) -> bool:
        """Whether raising single blocks fills the gap between two plans as well as another price would."""
        return abs(best.cost - missed.cost) <= CLOSE * best.cost

    def _raise(
        self, plan: Plan, weighted: Errors, *, left: float = math.inf, most: float = -math.inf
    ) -> Plan:
        """Run single blocks at harder levels, the best bargains first.

        Args:
            plan: to be changed.
            weighted: errors.
            left: the most to spend on it.
            most: the picture's error that is low enough.

        """
        costs = self._costs.levels
        error = total(weighted, plan.levels)
        blocks = [
            (group.level, block)
            for band in plan.bands
            for group in band.groups
            for block in group.blocks
        ]
        offers: list[_Offer] = []
        for number, (level, (row, column, rows, columns)) in enumerate(blocks):
            window = self.grid.window(rows, columns)
            errors = weighted[row : row + rows, column : column + columns].sum(axis=(0, 1))
            for harder in range(level + 1, len(costs)):
                more = costs[harder].window(*window) - costs[level].window(*window)
                gain = float(errors[level] - errors[harder])
                if gain > 0:
                    offers.append(_Offer(gain / max(more, 1e-30), number, harder, more, gain))
        offers.sort(reverse=True)
        raised: dict[int, int] = {}
        for place, offer in enumerate(offers):
            if error <= most:
                break
            if offer.number in raised or offer.more > left:
                continue
            taken = offer
            if error - offer.gain <= most:  # the last one: what costs least of all that suffice
                rest = [each for each in offers[place:] if each.number not in raised]
                enough = [each for each in rest if error - each.gain <= most]
                taken = min(enough, key=lambda each: each.more)
            raised[taken.number] = taken.harder
            left -= taken.more
            error -= taken.gain
        levels = [raised.get(number, level) for number, (level, _) in enumerate(blocks)]
        found = []
        for rows in self.rows:
            members: dict[tuple[int, int, int], list[NDArray[np.int64]]] = {}
            for level, (_, block) in zip(levels, blocks, strict=True):
                if block[0] in rows:
                    members.setdefault((level, int(block[2]), int(block[3])), []).append(block)
            groups = [Group(key[0], np.stack(each)) for key, each in sorted(members.items())]
            found.append(Band(rows, tuple(groups)))
        return self._with_loss(self._plan(tuple(found), plan.reason), weighted)

    def _at_price(self, weighted: Errors, price: float, reason: str) -> Plan:
        costs = self._costs.levels
        found = tuple(
            Band(
                rows,
                tuple(
                    cover(
                        weighted[rows.start : rows.stop],
                        self.grid,
                        costs,
                        price=price,
                        first=rows.start,
                    )
                ),
            )
            for rows in self.rows
        )
        return self._with_loss(self._plan(found, reason), weighted)

    def _with_loss(self, plan: Plan, weighted: Errors) -> Plan:
        lost = total(weighted, plan.levels) / weighted[:, :, -1].sum()
        return replace(plan, loss=10 * math.log10(lost))

    def _plan(self, found: tuple[Band, ...], reason: str) -> Plan:
        cost = self._judging + spent(_groups(found), self.grid, self._costs.levels)
        levels = levels_run(_groups(found), self.grid.shape)
        return Plan(
            self.grid,
            found,
            levels,
            self._costs,
            cost,
            self.cost_hardest,
            None,
            len(self.grid),
            reason,
        )


def _groups(found: Sequence[Band]) -> Iterator[Group]:
    """Go through the groups of all bands."""
    return chain.from_iterable(band.groups for band in found)


def explain(plan: Plan, labels: Sequence[str]) -> str:
    """Say in a few lines what is planned and why; `labels` name the levels."""
    lines = [f"plan: {plan.reason}"]
    grid, blocks = plan.grid, [group for band in plan.bands for group in band.groups]
    count = sum(len(group.blocks) for group in blocks)
    sizes = len({(group.level, *group.blocks[0, 2:].tolist()) for group in blocks})
    lines.append(
        f"  {grid.width}x{grid.height} pixels, {len(grid)} tiles of {grid.tile} in {count} blocks of {sizes} sizes, "
        f"{len(plan.bands)} bands"
    )
    for level, label in enumerate(labels):
        share = 100 * float(np.mean(plan.levels == level))
        line = f"  level {level}, {label}: {share:.0f} % of the tiles"
        if plan.costs.unit == "s":
            cost = plan.costs.levels[level]
            line += f", {1e9 * cost.per_pixel:.0f} ns a pixel and {1e6 * cost.per_window:.0f} us a block"
        lines.append(line)
    end = f"  {100 * plan.share:.0f} % of what the hardest level everywhere costs"
    if plan.costs.unit == "s":
        end += f": {plan.cost:.3f} s expected instead of {plan.cost_hardest:.3f} s"
    if plan.loss is not None:
        end += f"; {plan.loss:+.3f} dB lost, as predicted"
    return "\n".join([*lines, end])
