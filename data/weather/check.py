"""Says which parts of some summaries are right: dates, numbers, places, ...

`python data/weather/check.py SUMMARIES [--reference FILE]`, both line by line, prints for each part of a summary the
share of the reference's that are right, in percent, and for `places` that of all place names.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

PLACES = {
    "place of the highest": r"highest \S+ °C in ([^,.]+)",
    "place of the lowest": r"lowest \S+ °C in ([^,.]+)",
    "place of the rain": r"mm of rain in ([^,.]+)",
}
PARTS = {
    "date": r"^([^:]+):",
    "highest": r"highest (\S+) °C",
    "lowest": r"lowest (\S+) °C",
    "change": r"(warmer|colder) than the day before",
    "rain": r"(\S+) mm of rain|(dry)",
    "gusts": r"gusts of (\S+ [^ .]+)",
    **PLACES,
}


def part(summary: str, name: str) -> str | None:
    """What a summary says there; None: nothing."""
    found = re.search(PARTS[name], summary)
    return None if found is None else found[found.lastindex or 0]


def shares(summaries: list[str], references: list[str]) -> dict[str, float]:
    """For each part how many summaries of those whose reference has it say the same, in percent."""
    pairs = list(zip(summaries, references, strict=True))
    equal = {
        name: [part(one, name) == part(other, name) for one, other in pairs if part(other, name) is not None]
        for name in PARTS
    }
    equal["places"] = [same for name in PLACES for same in equal[name]]
    equal["whole summary"] = [one.split() == other.split() for one, other in pairs]
    return {name: 100 * sum(found) / len(found) for name, found in equal.items()}


def read(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Say which parts of summaries of weather reports are right.")
    parser.add_argument("summaries", type=Path, help="a summary a line")
    parser.add_argument("--reference", type=Path, default=Path(__file__).resolve().parent / "test.summary")
    arguments = parser.parse_args()
    for name, share in shares(read(arguments.summaries), read(arguments.reference)).items():
        print(f"{name:22}{share:6.1f} %")
