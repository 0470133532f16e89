"""Pairs of texts from files: two parallel files, columns, or JSON lines; one pass, one pair at a time."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from seq2seq.errors import DataError
from seq2seq.text.lines import MAX_LINE_CHARACTERS, Problem, scan_lines

FORMATS = ("parallel", "tsv", "jsonl")


class Pair(NamedTuple):
    """A source text, its target text, and where they stand (`path:line`)."""

    source: str
    target: str
    where: str


@dataclasses.dataclass
class CorpusReport:
    """What became of the lines of a corpus: how many pairs are used, and how many were skipped for which reason.

    Args:
        pairs: pairs that are used.
        skipped: number of skipped pairs by reason.
        first: by reason, the place of the first pair that was skipped for it.
        cut_sources: number of pairs that are used with a source that was cut.
        first_cut: the place of the first of these.
        tokens_left_out: tokens that were cut off, of all of them together.

    Examples:
        >>> report = CorpusReport(pairs=2)
        >>> report.skip("blank source", "train.en:3")
        >>> print(report.summary())
        2 pairs, 1 skipped
          1 blank source (first: train.en:3)
    """

    pairs: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    first: dict[str, str] = dataclasses.field(default_factory=dict)
    cut_sources: int = 0
    first_cut: str | None = None
    tokens_left_out: int = 0

    @property
    def number_skipped(self) -> int:
        """Number of pairs that were skipped, whatever the reason."""
        return sum(self.skipped.values())

    def skip(self, reason: str, where: str) -> None:
        """Count one pair that is not used."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self.first.setdefault(reason, where)

    def cut(self, where: str, tokens: int) -> None:
        """Count one pair that is used with a source that was cut by so many tokens."""
        self.cut_sources += 1
        self.first_cut = self.first_cut or where
        self.tokens_left_out += tokens

    @classmethod
    def total(cls, reports: Iterable["CorpusReport"]) -> "CorpusReport":
        """The counts of several corpora together."""
        total = cls()
        for report in reports:
            total.pairs += report.pairs
            total.cut_sources += report.cut_sources
            total.first_cut = total.first_cut or report.first_cut
            total.tokens_left_out += report.tokens_left_out
            for reason, count in report.skipped.items():
                total.skipped[reason] = total.skipped.get(reason, 0) + count
                total.first.setdefault(reason, report.first[reason])
        return total

    def summary(self) -> str:
        """The counts in words: one line, and one more for every reason."""
        lines = [f"{self.pairs:,} pairs, {self.number_skipped:,} skipped"]
        lines += [
            f"  {count:,} {reason} (first: {self.first[reason]})" for reason, count in sorted(self.skipped.items())
        ]
        if self.cut_sources:
            cut = f"{self.cut_sources:,} with a source that was cut, {self.tokens_left_out:,} tokens left out"
            lines.append(f"  {cut} (first: {self.first_cut})")
        return "\n".join(lines)


class Candidate(NamedTuple):
    """A pair before it is judged."""

    where: str
    source: str
    target: str
    problem: Problem | None = None


Judge = Callable[[str, str], Problem | None]


def read_pairs(
    source_path: str | Path,
    target_path: str | Path | None = None,
    *,
    format: str = "parallel",  # noqa: A002 - the word that users write in their recipes
    source_field: str | int | None = None,
    target_field: str | int | None = None,
    columns: int | None = None,
    on_bad_line: str = "error",
    max_line_characters: int = MAX_LINE_CHARACTERS,
    report: CorpusReport | None = None,
    judge: Judge | None = None,
) -> Iterator[Pair]:
    """The pairs of a corpus in the order of its files, read as they are asked for: memory does not grow with it.

    Args:
        source_path: file of the source lines (parallel), or of the pairs (tsv, jsonl). Any file may end in `.gz`.
        target_path: file of the target lines; for parallel only.
        format: `parallel`, `tsv` or `jsonl`.
        source_field: number of the column, from 1 (tsv; default 1), or key (jsonl; default "source").
        target_field: the same for the target (defaults 2 and "target").
        columns: number of columns every line must have (tsv); None: up to the last one used.
        on_bad_line: `error` stops at the first line that cannot be used; `skip` leaves it out, both sides of it, and
            counts it.
        max_line_characters: a longer line cannot be used.
        report: is filled in while reading.
        judge: tells what is wrong with a target beside its source, or None; None: any text will do.

    Returns:
        An iterator over the pairs.

    Raises:
        DataError: while reading, where a file is missing or unreadable, and, unless lines are skipped, where a line
            is blank, not UTF-8, holds NUL, is too long, lacks its partner, a column or a key. The message begins
            `path:line: `.
        ValueError: at once, where the arguments contradict each other.

    Examples:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "pairs.tsv"
        >>> _ = path.write_text("a cat\\tun chat\\n")
        >>> [(pair.source, pair.target) for pair in read_pairs(path, format="tsv")]
        [('a cat', 'un chat')]
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, but is {format!r} instead.")
    if on_bad_line not in ("error", "skip"):
        raise ValueError(f"on_bad_line must be error or skip, but is {on_bad_line!r} instead.")
    if (target_path is not None) != (format == "parallel"):
        needed = "a path" if format == "parallel" else "None"
        raise ValueError(f"target_path must be {needed} where format is {format}, but is {target_path!r} instead.")
    judge = judge or (lambda *_: None)
    if format == "parallel":
        _refuse(format, source_field=source_field, target_field=target_field, columns=columns)
        candidates = _parallel(Path(source_path), Path(str(target_path)), max_line_characters, judge)
    elif format == "tsv":
        fields = (_column(source_field, 1, "source_field"), _column(target_field, 2, "target_field"))
        if columns is not None and columns < max(fields):
            raise ValueError(f"columns must be at least {max(fields)}, the last one used, but is {columns} instead.")
        candidates = _tsv(source_path, fields, columns, max_line_characters, judge)
    else:
        _refuse(format, columns=columns)
        keys = (str(source_field or "source"), str(target_field or "target"))
        candidates = _jsonl(source_path, keys, max_line_characters, judge)
    return _usable(candidates, on_bad_line, CorpusReport() if report is None else report)


def _refuse(format: str, **arguments: object) -> None:  # noqa: A002
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name} must be None where format is {format}, but is {value!r} instead.")


def _column(value: str | int | None, default: int, name: str) -> int:
    number = default if value is None else int(value) if str(value).isdecimal() else 0
    if number < 1:
        raise ValueError(
            f"{name} must be the number of a column, from 1, where format is tsv, but is {value!r} instead."
        )
    return number


def _usable(candidates: Iterator[Candidate], on_bad_line: str, report: CorpusReport) -> Iterator[Pair]:
    for where, source, target, problem in candidates:
        if problem is None:
            report.pairs += 1
            yield Pair(source, target, where)
        elif on_bad_line == "skip":
            report.skip(problem.reason, where)
        else:
            raise DataError(f"{where}: {problem.message}")


def _blank(side: str, text: str) -> Problem | None:
    if text and not text.isspace():
        return None
    return Problem(
        f"blank {side}",
        f"the {side} must be text, but is blank instead. Remove the pair, or set on_bad_line to skip.",
    )


def _candidate(where: str, source: str, target: str, judge: Judge) -> Candidate:
    problem = _blank("source", source) or _blank("target", target) or judge(source, target)
    return Candidate(where, source, target, problem)


def _parallel(source_path: Path, target_path: Path, limit: int, judge: Judge) -> Iterator[Candidate]:
    pairs = itertools.zip_longest(scan_lines(source_path, limit), scan_lines(target_path, limit))
    for number, (source, target) in enumerate(pairs, start=1):
        if source is None or target is None:
            longer, shorter = (source_path, target_path) if target is None else (target_path, source_path)
            message = (
                f"must have a partner, but {shorter} ends after line {number - 1} instead. "
                "Check that both files are complete and aligned."
            )
            yield Candidate(f"{longer}:{number}", "", "", Problem("line without partner", message))
            continue
        source_problem = source.problem or _blank("source", source.text)
        target_problem = target.problem or _blank("target", target.text) or judge(source.text, target.text)
        where = target.where if target_problem and not source_problem else source.where
        yield Candidate(where, source.text, target.text, source_problem or target_problem)


class Row(NamedTuple):
    """The columns of one line, and where it stands (`path:line`)."""

    columns: tuple[str, ...]
    where: str


def read_columns(path: str | Path, columns: int, *, max_line_characters: int = MAX_LINE_CHARACTERS) -> Iterator[Row]:
    """The rows of a file of tab-separated columns, without header or quoting.

    Args:
        path: the file; `.gz` is read as gzip.
        columns: the number of columns that every line must have.
        max_line_characters: a longer line is an error.

    Returns:
        An iterator that reads as it goes.

    Raises:
        DataError: where the file cannot be read, or a line has another number of columns; it names file and line.
    """
    for where, texts, problem in _rows(path, columns, max_line_characters):
        if problem is not None:
            raise DataError(f"{where}: {problem.message}")
        yield Row(texts, where)


def _rows(path: str | Path, columns: int, limit: int) -> Iterator[tuple[str, tuple[str, ...], Problem | None]]:
    for where, text, problem in scan_lines(path, limit):
        texts = tuple(text.split("\t"))
        problem = problem or _blank("line", text)
        if problem is None and len(texts) != columns:
            few = len(texts) < columns
            message = f"must have {columns} tab-separated columns, but has {len(texts)} instead. " + (
                "Check for a missing tab." if few else "Check the line for a stray tab."
            )
            problem = Problem("too few columns" if few else "too many columns", message)
        yield where, texts, problem


def _tsv(
    path: str | Path, fields: tuple[int, int], columns: int | None, limit: int, judge: Judge
) -> Iterator[Candidate]:
    source, target = fields[0] - 1, fields[1] - 1
    for where, texts, problem in _rows(path, max(fields) if columns is None else columns, limit):
        if problem is not None:
            yield Candidate(where, "", "", problem)
        else:
            yield _candidate(where, texts[source], texts[target], judge)


def _jsonl(path: str | Path, keys: tuple[str, str], limit: int, judge: Judge) -> Iterator[Candidate]:
    for where, text, problem in scan_lines(path, limit):
        problem = problem or _blank("line", text)
        if problem is not None:
            yield Candidate(where, "", "", problem)
            continue
        try:
            item = json.loads(text)
        except (ValueError, RecursionError) as error:
            message = f"must be one JSON object, but is not JSON ({error}). Check the quotes and the line break."
            yield Candidate(where, "", "", Problem("not JSON", message))
            continue
        problem = _item_problem(item, keys)
        yield Candidate(where, "", "", problem) if problem else _candidate(where, item[keys[0]], item[keys[1]], judge)


def _item_problem(item: object, keys: tuple[str, str]) -> Problem | None:
    if not isinstance(item, dict):
        return Problem(
            "not a JSON object", f"must be one JSON object, but is {_JSON_WORDS[type(item)]} instead. Check the format."
        )
    for key in keys:
        if key not in item:
            found = ", ".join(sorted(item)) or "none"
            return Problem("missing key", f"must have the key {key!r}, but has {found} instead. Name the keys to read.")
        value = item[key]
        if not isinstance(value, str):
            message = f"{key!r} must be a string, but is {_JSON_WORDS[type(value)]} instead. Put the text in quotes."
            return Problem("not a string", message)
        if "\0" in value:
            return Problem("NUL character", f"{key!r} must be text, but holds the character NUL instead. Remove it.")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            message = f"{key!r} must be valid Unicode, but holds half a surrogate pair instead. Write the file anew."
            return Problem("not UTF-8", message)
    return None


_JSON_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
