"""The shipped weather reports: the files, and each summary worked out again from the words of its report."""

import importlib.util
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "data" / "weather"
PAIRS = {"train": 10_000, "dev": 500, "test": 500}
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DATE = rf"\d+ (?:{'|'.join(MONTHS)})"
NO_PLACES = {*MONTHS, *WEEKDAYS, "C", *("The", "It", "In", "On", "One", "No", "Gusts", "Showers", "Tomorrow", "Here")}
NO_PLACES |= {"Yesterday", "This", "Weather"}


def lines(name: str) -> list[str]:
    return (FOLDER / name).read_text(encoding="utf-8").splitlines()


def pairs_of(name: str) -> list[tuple[str, str]]:
    return list(zip(lines(f"{name}.report"), lines(f"{name}.summary"), strict=True))


def places_in(text: str) -> list[str]:
    words = r"(?:(?:East|Great|Lower|New|North|Old|Port|Saint|Upper) )?[A-Z][a-z]+"
    return [name for name in re.findall(rf"\b{words}\b", text) if name not in NO_PLACES]


def sentences_of(report: str) -> list[str]:
    return re.split(r"(?<=\.) (?=\S)", report)


def read_facts(report: str) -> dict:
    """Find what a report says of its day by units and a few words, whatever the wording."""
    facts = {"date": None, "temperatures": [], "yesterday": None, "rain": None, "gusts": []}
    for sentence in sentences_of(report):
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d)?(?= (?:°C|mm|km/h|knots|m/s))", sentence)]
        if facts["date"] is None and (date := re.search(DATE, sentence)):
            facts["date"] = date[0]
        elif re.search(r"[Tt]omorrow|lake", sentence):
            continue
        elif "highest temperature" in sentence:
            [facts["yesterday"]] = numbers
        elif "°C" in sentence:
            clauses = re.split(r" and |, while |, but |; ", sentence)
            facts["temperatures"] += [
                (number, *places_in(clause)) for number, clause in zip(numbers, clauses, strict=True)
            ]
        elif " mm" in sentence:
            facts["rain"] = [*(facts["rain"] or []), (*numbers, *places_in(sentence))]
        elif re.search(r"dry|[Nn]o (?:station|rain)", sentence):
            facts["rain"] = []
        elif unit := re.search(r"km/h|knots|m/s", sentence):
            facts["gusts"].append((*numbers, unit[0]))
    return facts


def sum_up(report: str) -> str:
    facts = read_facts(report)
    (high, high_place), (low, low_place) = max(facts["temperatures"]), min(facts["temperatures"])
    summary = f"{facts['date']}: highest {high:.0f} °C in {high_place}, lowest {low:.0f} °C in {low_place}"
    if (yesterday := facts["yesterday"]) is not None:
        summary += f", {'warmer' if high > yesterday else 'colder'} than the day before"
    if facts["rain"] is not None:
        summary += ", {} mm of rain in {}".format(*max(facts["rain"])) if facts["rain"] else ", dry"
    if facts["gusts"]:
        strongest, unit = max(facts["gusts"])
        summary += f", gusts of {strongest:.0f} {unit}"
    return f"{summary}.".replace("-0 °C", "0 °C")


def test_script_makes_the_committed_files(remade):
    made, different = remade(FOLDER / "make.py", FOLDER)
    assert made == sorted(f"{name}.{side}" for name in PAIRS for side in ("report", "summary"))
    assert different == []
    assert {name: len(pairs_of(name)) for name in PAIRS} == PAIRS
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 5_000_000


def test_no_report_is_there_twice():
    reports = [report for name in PAIRS for report in lines(f"{name}.report")]
    assert len(set(reports)) == len(reports)


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_summaries_follow_from_the_reports(name):
    pairs = pairs_of(name)[:: 20 if name == "train" else 1]
    assert [(report, summary) for report, summary in pairs if sum_up(report) != summary] == []


def test_each_report_has_three_to_eight_sentences():
    counts = {len(sentences_of(report)) for name in PAIRS for report in lines(f"{name}.report")}
    assert counts == set(range(3, 9))


def test_reports_tell_what_summaries_leave_out():
    """More numbers of each kind than the summary has: what is nearest, or first, is not enough."""
    facts = [read_facts(report) for report in lines("test.report")]
    assert sum(len(one["temperatures"]) > 2 for one in facts) > 300
    assert sum(len(one["rain"] or []) > 1 for one in facts) > 75
    assert sum(len(one["gusts"]) > 1 for one in facts) > 75
    assert sum(bool(re.search("Tomorrow|The lake", report)) for report in lines("test.report")) > 75
    # The first place that a report has a temperature of is the warmest no more often than chance makes it.
    first = [one["temperatures"][0] == max(one["temperatures"]) for one in facts]
    assert sum(first) / len(first) == pytest.approx(
        sum(1 / len(one["temperatures"]) for one in facts) / len(facts), abs=0.06
    )


def test_no_place_of_one_file_is_in_another():
    words = {
        name: {word.strip(".,:;'") for report in lines(f"{name}.report") for word in report.split()} for name in PAIRS
    }
    dev, test = (
        {place.split()[-1] for report in lines(f"{name}.report") for place in places_in(report)}
        for name in ("dev", "test")
    )
    assert min(len(dev), len(test)) > 390
    assert not dev & words["train"]
    assert not test & (words["train"] | words["dev"])


def test_each_letter_of_a_new_name_was_seen():
    known = set("".join(lines("train.report")))
    assert set("".join(lines("dev.report") + lines("test.report"))) <= known


@pytest.fixture(scope="module")
def shares():
    spec = importlib.util.spec_from_file_location("weather_check", FOLDER / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.shares


def test_check_finds_what_is_right(shares):
    references = [
        "3 May: highest 8 °C in Old Ula, lowest -6 °C in Weng, colder than the day before, 2.5 mm of rain in Ska.",
        "30 May: highest 1 °C in Ula, lowest 0 °C in Weng, dry, gusts of 17 m/s.",
    ]
    wrong = [
        "3 May: highest 8 °C in Ula, lowest -6 °C in Weng, warmer than the day before, 2.5 mm of rain in Ska.",
        "30 May: highest 1 °C in Ula, lowest 1 °C in Weng, gusts of 17 knots.",
    ]
    assert set(shares(references, references).values()) == {100}
    assert shares(wrong, references) == {
        "date": 100,
        "highest": 100,
        "lowest": 50,
        "change": 0,
        "rain": 50,
        "gusts": 0,
        "place of the highest": 50,
        "place of the lowest": 100,
        "place of the rain": 100,
        "places": 80,
        "whole summary": 0,
    }
