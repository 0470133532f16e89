"""Results of a comparison of runs: tables for a README, and a page with their figures."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from seq2seq.inspection.figures import Figure, bars, lines
from seq2seq.inspection.html import Table, is_numeric, write_page

METRIC_LABELS = {
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
SIZES = "sentences"

Results = Mapping[str, Any]
"""The object that `seq2seq.training.sweep.compare` yields, finished or not."""


def markdown(results: Results) -> str:
    """Format sizes, speeds and scores in Markdown, and where runs have them agreement and scores by length."""
    tables = [overview(results), agreement(results), by_length(results)]
    return "\n".join(_as_markdown(table) for table in tables if table is not None)


def write_comparison(path: str | pathlib.Path, results: Results) -> pathlib.Path:
    """Write one HTML page of a comparison, which opens without a network."""
    labels = metric_labels(results)
    tested = {row["name"]: row["scores"]["test"] for row in results["variants"] if "test" in row["scores"]}
    best = []
    for score, label in labels.items():
        values = {name: scores[score] for name, scores in tested.items() if scores.get(score) is not None}
        if values:
            name = max(values, key=values.__getitem__)
            best.append((label, name, values[name]))
    scores = {name: (list(labels.values()), [scores.get(score) for score in labels]) for name, scores in tested.items()}
    length_label = METRIC_LABELS[length_metric(results)]
    return write_page(
        path,
        "comparison.html",
        name=results["name"],
        axes=results["axes"],
        finished=sum(row["status"] == "finished" for row in results["variants"]),
        best=best,
        overview=overview(results),
        scores=bars(scores, y_title="score") if tested else None,
        agreement=_with_lines(agreement(results), x_title="distractors", y_title="right verb forms, %"),
        by_length=_with_lines(by_length(results), x_title="words in the source", y_title=length_label),
        length_score=length_label,
    )


def metric_labels(results: Results) -> dict[str, str]:
    """Return the labels of the scores that some variant has; before the first, of those of translations."""
    found = {name for row in results["variants"] for name in row["scores"].get("test", {})}
    found = found or {"bleu", "chrf", "exact_match"}
    return {name: label for name, label in METRIC_LABELS.items() if name in found}


def length_metric(results: Results) -> str:
    """Return the score that is told by length."""
    return next(name for name in ("bleu", "rouge_l", "accuracy") if name in metric_labels(results))


def overview(results: Results) -> Table:
    """Show the size, the speed, the scores and the status of every variant."""
    labels = metric_labels(results)
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
                *(scores.get("test", {}).get(score) for score in labels),
                f"failed: {row['error']}" if row["status"] == "failed" else row["status"],
            ]
        )
    costs = ["parameters", "recurrent parameters", "target tokens/s", "kernel", "minutes"]
    return Table([*results["axes"], *costs, *labels.values(), "status"], rows)


def agreement(results: Results) -> Table | None:
    """Show agreement by the number of distractors; None where no variant has it."""
    measured = {row["name"]: row["scores"]["agreement"] for row in results["variants"] if "agreement" in row["scores"]}
    if not measured:
        return None
    counts = sorted({count for shares in measured.values() for count in shares}, key=int)
    return Table(["distractors", *counts], [[name, *map(shares.get, counts)] for name, shares in measured.items()])


def by_length(results: Results) -> Table | None:
    """Show a score by the length of the source, with the size of each group; None where no variant has it."""
    measured = {
        row["name"]: {(part["shortest"], part["longest"]): part for part in row["scores"]["test"]["by_length"]}
        for row in results["variants"]
        if "test" in row["scores"]
    }
    if not measured:
        return None
    groups = sorted({group for parts in measured.values() for group in parts})
    score = length_metric(results)
    rows = [[name, *(parts.get(group, {}).get(score) for group in groups)] for name, parts in measured.items()]
    sizes = [{parts[group]["sentences"] for parts in measured.values() if group in parts} for group in groups]
    # Runs that differ in their test sets have groups of different sizes.
    rows.append([SIZES, *(size.pop() if len(size) == 1 else None for size in sizes)])
    names = [f"over {low - 1}" if high is None else f"{low}-{high}" for low, high in groups]
    return Table(["words", *names], rows)


def _with_lines(table: Table | None, x_title: str, y_title: str) -> tuple[Table, Figure] | None:
    """Pair a table of one variant a row with its figure of one line a variant."""
    if table is None:
        return None
    series: dict[str, tuple[Sequence, Sequence]] = {
        str(name): (range(len(values)), values) for name, *values in table.rows if name != SIZES
    }
    return table, lines(series, x_title=x_title, y_title=y_title, x_labels=table.columns[1:])


def _as_markdown(table: Table) -> str:
    rules = ["---:" if is_numeric(column) else "---" for column in zip(*table.rows, strict=True)]
    rows = [[_cell(value) for value in row] for row in table.rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in [table.columns, rules, *rows])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
