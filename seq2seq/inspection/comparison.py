"""What a comparison of runs found: tables for a README, and a page with their pictures."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from seq2seq.inspection.figures import bars, lines
from seq2seq.inspection.html import Part, Table, write_page

SCORES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "token_f1": "token F1",
    "exact_match": "exact match",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
AGREEMENT = "Agreement by number of distractors"
SIZES = "sentences"

Results = Mapping[str, Any]


def markdown(results: Results) -> str:
    """The tables of a comparison in Markdown.

    Args:
        results: What `seq2seq.training.compare` gives.

    Returns:
        A table of sizes, speeds and scores, and where runs have them one of agreement and one of BLEU by length.
    """
    tables = [_overview(results)]
    if table := _agreement(results):
        tables.append(table)
    if table := _by_length(results):
        tables.append(table)
    return "\n".join(_as_markdown(table) for table in tables)


def write_comparison(path: str | pathlib.Path, results: Results) -> pathlib.Path:
    """Writes one HTML page of a comparison, which opens without a network.

    Args:
        path: The file to write; what stood there is replaced.
        results: What `seq2seq.training.compare` gives, finished or not.

    Returns:
        The path.

    Raises:
        DataError: If the file cannot be written.
    """
    parts = [
        Part(
            "What each variant costs, and what it is worth",
            "A variant's size, the target tokens that it trained on in a second, padding and evaluations left out, the "
            "minutes of its training with evaluations, and the scores of its best checkpoint on the test set, each "
            "better when higher.",
            _overview(results),
        )
    ]
    names = _scores(results)
    if tested := [row for row in results["variants"] if "test" in row["scores"]]:
        parts.append(
            Part(
                "Scores on the test set",
                "Bars of one colour are one variant: look whether all scores agree on which is best.",
                bars(
                    {
                        row["name"]: (list(names.values()), [row["scores"]["test"].get(score) for score in names])
                        for row in tested
                    },
                    y_title="score",
                ),
            )
        )
    if table := _agreement(results):
        parts += [
            Part(
                AGREEMENT,
                "Share of right verb forms, in percent, by how many nouns of the other number stand between the "
                "subject and its verb: a line that falls is a number that was forgotten.",
                lines(_series(table), x_title="distractors", y_title="right verb forms, %", x_labels=_points(table)),
            ),
            Part("The same in numbers", "", table),
        ]
    if table := _by_length(results):
        score = SCORES[_score_by_length(results)]
        parts += [
            Part(
                f"{score} by length of the source",
                "A line that falls to the right is a memory that long sentences do not fit into. Groups of few "
                "sentences say little: their sizes are in the table's last row.",
                lines(_series(table), x_title="words in the source", y_title=score, x_labels=_points(table)),
            ),
            Part("The same in numbers", "", table),
        ]
    return write_page(path, f"Comparison {results['name']}", parts)


def _scores(results: Results) -> dict[str, str]:
    """The scores that some variant has, by their names in its files; those of translations where none has any."""
    found = {name for row in results["variants"] for name in row["scores"].get("test", {})}
    found = found or {"bleu", "chrf", "exact_match"}
    return {name: shown for name, shown in SCORES.items() if name in found}


def _score_by_length(results: Results) -> str:
    return next(name for name in ("bleu", "rouge_l", "accuracy") if name in _scores(results))


def _overview(results: Results) -> Table:
    names = _scores(results)
    rows = []
    for row in results["variants"]:
        scores = row["scores"]
        speed = scores.get("target_tokens_per_second")
        rows.append(
            [
                *row["settings"].values(),
                scores.get("parameters"),
                scores.get("recurrent_parameters"),
                None if speed is None else round(speed),
                scores.get("recurrent_kernel"),
                scores.get("training_minutes"),
                *(scores.get("test", {}).get(score) for score in names),
                f"failed: {row['error']}" if row["status"] == "failed" else row["status"],
            ]
        )
    columns = [
        *results["axes"],
        *("parameters", "recurrent parameters", "target tokens/s", "kernel", "minutes"),
        *names.values(),
        "status",
    ]
    return Table(columns, rows)


def _agreement(results: Results) -> Table | None:
    measured = {row["name"]: row["scores"]["agreement"] for row in results["variants"] if "agreement" in row["scores"]}
    if not measured:
        return None
    counts = sorted({count for shares in measured.values() for count in shares}, key=int)
    return Table(["distractors", *counts], [[name, *map(shares.get, counts)] for name, shares in measured.items()])


def _by_length(results: Results) -> Table | None:
    measured = {
        row["name"]: {(part["shortest"], part["longest"]): part for part in row["scores"]["test"]["by_length"]}
        for row in results["variants"]
        if "test" in row["scores"]
    }
    if not measured:
        return None
    groups = sorted({group for parts in measured.values() for group in parts})
    score = _score_by_length(results)
    rows = [[name, *(parts.get(group, {}).get(score) for group in groups)] for name, parts in measured.items()]
    sizes = [{parts[group]["sentences"] for parts in measured.values() if group in parts} for group in groups]
    # Runs that differ in their test sets have groups of different sizes.
    rows.append([SIZES, *(size.pop() if len(size) == 1 else None for size in sizes)])
    return Table(["words", *map(_group_name, groups)], rows)


def _group_name(group: tuple[int, int | None]) -> str:
    shortest, longest = group
    return f"over {shortest - 1}" if longest is None else f"{shortest}-{longest}"


def _points(table: Table) -> Sequence[str]:
    return table.columns[1:]


def _series(table: Table) -> dict[str, tuple[Sequence, Sequence]]:
    return {str(name): (range(len(values)), values) for name, *values in table.rows if name != SIZES}


def _as_markdown(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True))
    numeric = [all(isinstance(value, int | float | None) for value in column) for column in columns]
    rules = ["---:" if right else "---" for right in numeric]
    rows = [[_shown(value) for value in row] for row in table.rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in [table.columns, rules, *rows])


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
