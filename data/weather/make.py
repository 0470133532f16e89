"""Writes the shipped corpus of weather reports and their summaries, all of it invented, the same on every run.

`python data/weather/make.py [--output FOLDER]` writes `train.report`, `train.summary` and the same of dev and test. A
report has 3 to 8 sentences about one day in a region; its summary is one line that names the date, the highest and the
lowest temperature in whole degrees with their places, whether it got warmer, the most rain with its place and the
strongest gust, whatever of it the report tells. So a summary needs selection (a report also tells of tomorrow, lakes
and rivers), aggregation (highest, lowest, change) and copying: no place of the dev and test reports is in a training
report, nor one of the test reports in a dev report.

Names are made in `places.py`, days in `weather.py`, the two texts in `report.py` and `summary.py`.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from places import draw_places
from report import report
from summary import summary
from weather import draw_day

SEED = 20250321
PAIRS = {"train": 10_000, "dev": 500, "test": 500}
PLACES = {"train": 2_500, "dev": 400, "test": 400}


def draw_pairs(draw: random.Random, count: int, places: list[str]) -> list[tuple[str, str]]:
    """So many reports about these places, with their summaries; no report twice."""
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        day = draw_day(draw, places)
        pairs[report(day, draw)] = summary(day)
    return list(pairs.items())


def make(output: Path) -> None:
    """Writes all the files into the folder."""
    draw = random.Random(SEED)
    places = draw_places(draw, sum(PLACES.values()))
    output.mkdir(parents=True, exist_ok=True)
    for name, count in PAIRS.items():
        own, places = places[: PLACES[name]], places[PLACES[name] :]
        reports, summaries = zip(*draw_pairs(draw, count, own), strict=True)
        write_lines(output / f"{name}.report", reports)
        write_lines(output / f"{name}.summary", summaries)


def write_lines(path: Path, lines: tuple[str, ...]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the corpus of weather reports and their summaries.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent, help="folder to write to")
    make(parser.parse_args().output)
