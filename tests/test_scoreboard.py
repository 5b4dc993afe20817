"""Every table holds the numbers that it was given, in a form that other programs read."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from classsr.evaluation import Score, mean_score
from classsr.scoreboard import HEAD, Results, line, markdown, to_csv, to_json

KODIM = Score(
    name="kodim01",
    psnr_rgb=27.123,
    psnr_luma=28.456,
    ssim_rgb=0.81234,
    ssim_luma=0.83456,
    shares=(0.25, 0.75),
    macs=2e9,
    macs_hardest=4e9,
    flops=30e6,
    flops_hardest=40e6,
    seconds=1.23456,
    peak_mib=567.8,
)
OTHER = replace(KODIM, name='a, "quoted" | name', psnr_rgb=29.0)


def results(*scores: Score, model: str = "two-levels", protocol: str = "whole") -> Results:
    return Results(model, "auto", protocol, scores, mean_score(scores))


BOTH = [
    results(KODIM, OTHER),
    results(replace(KODIM, shares=(0.5, 0.25, 0.25)), model="three-levels", protocol="paper"),
]


def cells(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without the row of dashes."""
    rows = [[cell.strip() for cell in row.strip("| ").split("|")] for row in text.splitlines()]
    return [rows[0], *rows[2:]]


def test_a_line_tells_quality_shares_cost_time_and_memory() -> None:
    found = line(KODIM).split()

    assert found == [
        "kodim01",
        "27.12",
        "28.46",
        "0.8123",
        "0.8346",
        "25/75",
        "%",
        "2.00",
        "50",
        "%",
        "1.235",
        "568",
    ]


@pytest.mark.parametrize("name", ["a", "n" * 90])
def test_lines_are_of_one_width_that_a_terminal_has(name: str) -> None:
    told = line(KODIM, name)

    assert len(told) == len(HEAD) <= 100


def test_small_costs_are_not_rounded_to_nothing() -> None:
    assert " 0.0123 " in line(replace(KODIM, macs=12.3e6))


def test_memory_that_is_unknown_is_left_out() -> None:
    assert line(replace(KODIM, peak_mib=None)).split()[-1] == "1.235"


def test_markdown_has_a_row_of_means_for_every_model() -> None:
    head, first, second = cells(markdown(BOTH))

    assert len(head) == len(first) == len(second)
    found = dict(zip(head, first, strict=True))
    assert found["model"] == "two-levels"
    assert found["pictures"] == "2"
    assert found["PSNR, dB"] == "28.06"
    assert found["tiles per level, %"] == "25 / 75"
    assert found["of the hardest"] == "50 %"
    assert found["MFLOPs a tile as papers print them"] == "30.0 (75 %)"
    assert second[:3] == ["three-levels", "auto", "paper"]


def test_csv_has_a_row_for_every_picture_and_mean() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(BOTH))))

    assert [row["picture"] for row in rows] == [
        "kodim01",
        OTHER.name,
        "mean of 2",
        "kodim01",
        "mean of 1",
    ]
    assert float(rows[0]["psnr_rgb"]) == KODIM.psnr_rgb
    assert float(rows[0]["cost"]) == 0.5
    assert [rows[0][f"share_{level}"] for level in range(3)] == ["0.25", "0.75", ""]
    assert [rows[3][f"share_{level}"] for level in range(3)] == ["0.5", "0.25", "0.25"]
    assert [row["protocol"] for row in rows] == ["whole"] * 3 + ["paper"] * 2


def test_json_holds_everything() -> None:
    first, second = json.loads(to_json(BOTH))

    assert [picture["name"] for picture in first["pictures"]] == ["kodim01", OTHER.name]
    for name in ("psnr_rgb", "ssim_luma", "macs", "flops", "seconds", "peak_mib", "cost"):
        assert first["pictures"][0][name] == getattr(KODIM, name)
    assert first["mean"]["psnr_rgb"] == pytest.approx((27.123 + 29) / 2)
    assert (second["model"], second["route"], second["protocol"]) == (
        "three-levels",
        "auto",
        "paper",
    )


def test_json_knows_no_infinity() -> None:
    equal = replace(KODIM, psnr_rgb=math.inf, psnr_luma=math.inf)

    text = to_json([results(equal)])

    assert "Infinity" not in text  # Python would read it, other programs would not
    (found,) = json.loads(text)
    assert found["mean"]["psnr_rgb"] is None
    assert found["pictures"][0]["psnr_luma"] is None
