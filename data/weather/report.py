"""The wording of a report: sentences that tell a day's facts, and others that its summary leaves out."""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence

from weather import MONTHS, Day, Reading, date_words, decimal

SHORTEST, LONGEST = 3, 8

OPENINGS = (
    "weather report for {weekday}, {date}",
    "this is how the weather was on {weekday}, {date}",
    "{weekday}, {date}, was a {kind} day",
    "the stations sent these values on {date}",
    "the report of {date} comes from {stations} stations",
    "here are the values of {weekday}, {date}",
)
KINDS = ("calm", "changeable", "dull", "friendly", "gloomy", "pleasant", "rough")
TEMPERATURES = (
    "in {place} the temperature reached {value} °C",
    "{place} had {value} °C",
    "{place} reported {value} °C",
    "the thermometer in {place} showed {value} °C",
    "{value} °C was measured in {place}",
    "it was {value} °C in {place}",
)
JOINED = ("{} and {}", "{}, while {}", "{}, but {}", "{}; {}")
YESTERDAY = (
    "the day before, {value} °C had been the highest temperature",
    "yesterday's highest temperature had been {value} °C",
    "on {weekday} the highest temperature had been {value} °C",
    "the highest temperature of the day before was {value} °C",
)
DRY = ("it stayed dry everywhere", "no station reported any rain", "no rain fell", "it was a dry day")
RAIN = (
    "{place} received {value} mm of rain",
    "{value} mm of rain fell in {place}",
    "showers brought {place} {value} mm of rain",
    "the rain gauge in {place} held {value} mm",
)
GUSTS = (
    "gusts of {value} {unit} were felt in {place}",
    "the wind reached {value} {unit} in {place}",
    "in {place} the wind blew with up to {value} {unit}",
    "{place} had gusts of {value} {unit}",
)
OTHERS = (
    "the air pressure in {place} was {pressure} hPa",
    "in {place} the sun rose at {hour}:{minute}",
    "the humidity in {place} was {percent} %",
    "one could see {distance} km far in {place}",
    "tomorrow {temperature} °C is expected in {place}",
    "the lake at {place} has {temperature} °C",
    "{place} celebrates {percent} years of its weather station",
    "the station in {place} has measured since {month} {year}",
    "the river at {place} rose by {percent} cm",
)


def report(day: Day, draw: random.Random) -> str:
    """Three to eight sentences, the one with the date first, the others in any order."""
    sentences = measured(draw, GUSTS, day.gusts, day.wind_unit)
    if day.rain:
        sentences += measured(draw, RAIN, day.rain)
    elif day.rain is not None:
        sentences.append(draw.choice(DRY))
    if day.yesterday is not None:
        weekday = weekday_of(day.date - datetime.timedelta(days=1))
        sentences.append(draw.choice(YESTERDAY).format(value=decimal(day.yesterday), weekday=weekday))
    sentences += temperature_sentences(day, draw, LONGEST - 1 - len(sentences))
    least, most = (max(0, limit - 1 - len(sentences)) for limit in (SHORTEST, LONGEST))
    sentences += [other(draw, day) for _ in range(draw.randint(least, min(2, most)))]
    draw.shuffle(sentences)
    opening = draw.choice(OPENINGS).format(
        weekday=weekday_of(day.date),
        date=date_words(day.date),
        kind=draw.choice(KINDS),
        stations=draw.randrange(6, 30),
    )
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in (opening, *sentences))


def temperature_sentences(day: Day, draw: random.Random, most: int) -> list[str]:
    """One or two readings a sentence, in at most so many sentences."""
    clauses = measured(draw, TEMPERATURES, day.temperatures)
    draw.shuffle(clauses)
    sentences = []
    while clauses:
        if len(clauses) > 1 and (len(clauses) > most - len(sentences) or draw.random() < 0.5):
            sentences.append(draw.choice(JOINED).format(clauses.pop(), clauses.pop()))
        else:
            sentences.append(clauses.pop())
    return sentences


def measured(draw: random.Random, wordings: Sequence[str], readings: Sequence[Reading], unit: str = "") -> list[str]:
    """A wording for each reading; those with a unit of their own are whole numbers."""
    return [
        draw.choice(wordings).format(
            place=reading.place, value=str(reading.tenths // 10) if unit else decimal(reading.tenths), unit=unit
        )
        for reading in readings
    ]


def other(draw: random.Random, day: Day) -> str:
    """A sentence with numbers and names that the summary does not want."""
    return draw.choice(OTHERS).format(
        place=draw.choice(day.others),
        pressure=draw.randrange(980, 1040),
        hour=draw.randrange(5, 9),
        minute=f"{draw.randrange(60):02}",
        percent=draw.randrange(20, 100),
        distance=draw.randrange(2, 40),
        temperature=decimal(draw.choice(day.temperatures).tenths + draw.randrange(-60, 60)),
        month=draw.choice(MONTHS),
        year=draw.randrange(1890, 2010),
    )


def weekday_of(date: datetime.date) -> str:
    return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[date.weekday()]
