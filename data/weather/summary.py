"""The line that sums up a report: the same facts always give the same words."""

from __future__ import annotations

from weather import Day, date_words, decimal, rounded


def summary(day: Day) -> str:
    """Date, extremes in whole degrees, change, most rain and strongest gust, as far as the report tells them."""
    highest, lowest = day.highest, day.lowest
    parts = [
        f"highest {rounded(highest.tenths)} °C in {highest.place}",
        f"lowest {rounded(lowest.tenths)} °C in {lowest.place}",
    ]
    if day.yesterday is not None:
        parts.append(f"{'warmer' if highest.tenths > day.yesterday else 'colder'} than the day before")
    if day.rain:
        most = max(day.rain, key=lambda reading: reading.tenths)
        parts.append(f"{decimal(most.tenths)} mm of rain in {most.place}")
    elif day.rain is not None:
        parts.append("dry")
    if day.gusts:
        parts.append(f"gusts of {max(gust.tenths for gust in day.gusts) // 10} {day.wind_unit}")
    return f"{date_words(day.date)}: {', '.join(parts)}."
