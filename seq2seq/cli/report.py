"""Results on standard output, as JSON and for people."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seq2seq.training.run import TrainingResult


def print_json(scores: Mapping[str, Any]) -> None:
    """Print scores as one JSON object."""
    print(json.dumps(scores, ensure_ascii=False))


def print_scores(scores: Mapping[str, Any]) -> None:
    """Print each score on a line, and groups of scores below their name."""
    for line in score_lines(scores):
        print(line)


def score_lines(scores: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Format scores as lines of text.

    >>> list(score_lines({"bleu": 30.123, "by_length": [{"longest": None, "bleu": 1.0}]}))
    ['bleu: 30.12', 'by_length:', '  longest -, bleu 1.00']
    """
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from score_lines(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name}:"
            for row in value:
                yield f"{indent}  " + ", ".join(f"{column} {shown(cell)}" for column, cell in row.items())
        else:
            yield f"{indent}{name}: {shown(value)}"


def shown(value: object) -> str:
    """Format one score, with two decimals where it has any."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def aligned(rows: Sequence[Sequence[str]], left: tuple[int, ...]) -> list[str]:
    """Align the cells of a table: the columns numbered in `left` at the left, the others at the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def print_result(result: "TrainingResult") -> None:
    """Print some outputs for the test set, the scores, and the path of the model of a run."""
    for source, output, reference in result.samples:
        print(f"source     {source}\noutput     {output}\nreference  {reference}\n")
    print_scores(result.scores)
    print(f"model: {result.model_path}")
