"""What a report tells of: one day in a region, drawn so that nobody need ask which value is the highest."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WARMEST_DAY = datetime.date(2024, 7, 20)
WIND_UNITS = {"km/h": (31, 125), "knots": (17, 68), "m/s": (9, 35)}


@dataclass(frozen=True)
class Reading:
    """A number that was measured at a place, in tenths where it has any."""

    place: str
    tenths: int

    @property
    def value(self) -> str:
        return decimal(self.tenths)


@dataclass(frozen=True)
class Day:
    """Everything that the report and its summary may tell.

    Attributes:
        date: the day.
        temperatures: two to four places, at least two degrees apart from each other, no value with half a degree.
        yesterday: the highest temperature of the day before, in tenths, at least two degrees from today's; None: the
            report does not tell.
        rain: at most two places; none: it stayed dry; None: the report does not tell.
        gusts: at most two places, in whole units; none: the report does not tell.
        wind_unit: of the gusts.
        others: places of the region, for what the summary leaves out.
    """

    date: datetime.date
    temperatures: list[Reading]
    yesterday: int | None
    rain: list[Reading] | None
    gusts: list[Reading]
    wind_unit: str
    others: list[str]

    @property
    def highest(self) -> Reading:
        return max(self.temperatures, key=lambda reading: reading.tenths)

    @property
    def lowest(self) -> Reading:
        return min(self.temperatures, key=lambda reading: reading.tenths)


def draw_day(draw: random.Random, places: list[str]) -> Day:
    """A day in a region of some of the places."""
    date = datetime.date(2023, 1, 1) + datetime.timedelta(days=draw.randrange(730))
    region = draw.sample(places, 5)
    temperatures = draw_temperatures(draw, date, region[: draw.choice((2, 3, 3, 4))])
    highest = max(reading.tenths for reading in temperatures)
    change = draw.choice((-1, 1)) * draw.randrange(20, 100)
    low, high = WIND_UNITS[wind_unit := draw.choice(list(WIND_UNITS))]
    gusts = apart(draw.choice((0, 1, 1, 2)), lambda: draw.randrange(low, high), 2)
    rain = apart(draw.choice((0, 1, 1, 2)), lambda: draw.randrange(3, 400), 10)
    return Day(
        date=date,
        temperatures=temperatures,
        yesterday=highest + change if draw.random() < 0.7 else None,
        rain=placed(draw, region, rain) if draw.random() < 0.8 else None,
        gusts=placed(draw, region, [10 * gust for gust in gusts]),
        wind_unit=wind_unit,
        others=region,
    )


def draw_temperatures(draw: random.Random, date: datetime.date, places: list[str]) -> list[Reading]:
    """A temperature for each place, as the season has them."""
    from_warmest = abs((date - WARMEST_DAY).days) % 365
    season = 26 - 26 * min(from_warmest, 365 - from_warmest) / 182
    middle = 10 * draw.gauss(season, 5)

    def one() -> int:
        tenths = round(middle + draw.uniform(-100, 100))
        return tenths + 1 if tenths % 10 == 5 else tenths

    return [Reading(place, tenths) for place, tenths in zip(places, apart(len(places), one, 20), strict=True)]


def apart(count: int, one: Callable[[], int], gap: int) -> list[int]:
    """So many numbers, each of them at least the gap from each other."""
    numbers: list[int] = []
    while len(numbers) < count:
        number = one()
        if all(abs(number - other) >= gap for other in numbers):
            numbers.append(number)
    return numbers


def placed(draw: random.Random, places: list[str], numbers: list[int]) -> list[Reading]:
    """The numbers, each at a place of its own."""
    return [Reading(place, tenths) for place, tenths in zip(draw.sample(places, len(numbers)), numbers, strict=True)]


def decimal(tenths: int) -> str:
    return f"{tenths / 10:.1f}"


def rounded(tenths: int) -> str:
    """To whole units; there are no halves."""
    return str(round(tenths / 10))


def date_words(date: datetime.date) -> str:
    return f"{date.day} {MONTHS[date.month - 1]}"
