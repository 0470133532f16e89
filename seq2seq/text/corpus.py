"""Read pairs of texts from two parallel files, columns or JSON lines, one pair at a time."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from seq2seq.errors import ArgumentError, DataError, require_choice
from seq2seq.text.lines import MAX_LINE_CHARACTERS, Line, Problem, scan_lines

FORMATS = ("parallel", "tsv", "jsonl")


class Pair(NamedTuple):
    """A source text, its target text, their place (`path:line`), and the reason against using them, if any."""

    source: str
    target: str
    where: str
    problem: Problem | None = None


Validator = Callable[[str, str], Problem | None]
Parser = Callable[[str], tuple[str, str] | Problem]


@dataclasses.dataclass
class CorpusReport:
    """Counts of the pairs of a corpus: used, skipped by reason, and used with a truncated source."""

    pairs: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    first: dict[str, str] = dataclasses.field(default_factory=dict)
    cut_sources: int = 0
    first_cut: str | None = None
    tokens_left_out: int = 0

    @property
    def number_skipped(self) -> int:
        """Number of pairs skipped for any reason."""
        return sum(self.skipped.values())

    def skip(self, reason: str, where: str, count: int = 1) -> None:
        """Count pairs that are not used, the first of them at `where`."""
        self.skipped[reason] = self.skipped.get(reason, 0) + count
        self.first.setdefault(reason, where)

    def cut(self, where: str | None, tokens: int, sources: int = 1) -> None:
        """Count sources that were truncated by `tokens` tokens, the first of them at `where`."""
        self.cut_sources += sources
        self.first_cut = self.first_cut or where
        self.tokens_left_out += tokens

    @classmethod
    def total(cls, reports: Iterable["CorpusReport"]) -> "CorpusReport":
        """Add up the counts of several corpora."""
        total = cls()
        for report in reports:
            total.pairs += report.pairs
            total.cut(report.first_cut, report.tokens_left_out, report.cut_sources)
            for reason, count in report.skipped.items():
                total.skip(reason, report.first[reason], count)
        return total

    def summary(self) -> str:
        """Describe the counts: one line, and one more for every reason."""
        lines = [f"{self.pairs:,} pairs, {self.number_skipped:,} skipped"]
        lines += [
            f"  {count:,} {reason} (first: {self.first[reason]})" for reason, count in sorted(self.skipped.items())
        ]
        if self.cut_sources:
            cut = f"{self.cut_sources:,} with a source that was cut, {self.tokens_left_out:,} tokens left out"
            lines.append(f"  {cut} (first: {self.first_cut})")
        return "\n".join(lines)


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
    validate: Validator | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of a corpus in the order of its files; memory does not grow with it.

    Of tab-separated files the fields are numbers of columns, from 1, of JSON lines keys. `on_bad_line` is `error`,
    which stops at the first bad line, or `skip`, which counts it in the report. `validate` returns the reason against a
    source and its target, or None.
    """
    require_choice("format", format, FORMATS)
    require_choice("on_bad_line", on_bad_line, ("error", "skip"))
    if (target_path is not None) != (format == "parallel"):
        needed = "a path" if format == "parallel" else "None"
        raise ArgumentError("target_path", f"{needed} where format is {format}", target_path)
    fields = {"source_field": source_field, "target_field": target_field}
    unused = (fields if format == "parallel" else {}) | ({} if format == "tsv" else {"columns": columns})
    for name, value in unused.items():
        if value is not None:
            raise ArgumentError(name, f"None where format is {format}", value)
    validate = validate or (lambda *_: None)
    if format == "parallel":
        paths = Path(source_path), Path(str(target_path))
        pairs = _parallel_pairs(*paths, max_line_characters, validate)
    else:
        parse = (
            _column_parser(fields, columns)
            if format == "tsv"
            else _json_parser((str(source_field or "source"), str(target_field or "target")))
        )
        pairs = _parsed_pairs(scan_lines(source_path, max_line_characters), parse, validate)
    return _skip_or_raise(pairs, on_bad_line, CorpusReport() if report is None else report)


def _skip_or_raise(pairs: Iterator[Pair], on_bad_line: str, report: CorpusReport) -> Iterator[Pair]:
    for pair in pairs:
        if pair.problem is None:
            report.pairs += 1
            yield pair
        elif on_bad_line == "skip":
            report.skip(pair.problem.reason, pair.where)
        else:
            raise DataError(f"{pair.where}: {pair.problem.message}")


def _blank(side: str, text: str) -> Problem | None:
    if text and not text.isspace():
        return None
    message = f"the {side} must be text, got a blank one. Remove the pair, or set on_bad_line to skip."
    return Problem(f"blank {side}", message)


def _parallel_pairs(source_path: Path, target_path: Path, limit: int, validate: Validator) -> Iterator[Pair]:
    lines = itertools.zip_longest(scan_lines(source_path, limit), scan_lines(target_path, limit))
    for number, (source, target) in enumerate(lines, start=1):
        if source is None or target is None:
            longer, shorter = (source_path, target_path) if target is None else (target_path, source_path)
            message = (
                f"must have a partner, but {shorter} ends after line {number - 1}. "
                "Check that both files are complete and aligned."
            )
            yield Pair("", "", f"{longer}:{number}", Problem("line without partner", message))
            continue
        source_problem = source.problem or _blank("source", source.text)
        target_problem = target.problem or _blank("target", target.text) or validate(source.text, target.text)
        where = target.where if target_problem and not source_problem else source.where
        yield Pair(source.text, target.text, where, source_problem or target_problem)


def _parsed_pairs(lines: Iterator[Line], parse: Parser, validate: Validator) -> Iterator[Pair]:
    for where, text, problem in lines:
        parsed = problem or _blank("line", text) or parse(text)
        if isinstance(parsed, Problem):
            yield Pair("", "", where, parsed)
        else:
            yield Pair(*parsed, where, _blank("source", parsed[0]) or _blank("target", parsed[1]) or validate(*parsed))


def _column_parser(fields: dict[str, str | int | None], columns: int | None) -> Parser:
    numbers = []
    for default, (name, value) in enumerate(fields.items(), start=1):
        numbers.append(default if value is None else int(value) if str(value).isdecimal() else 0)
        if numbers[-1] < 1:
            raise ArgumentError(name, "the number of a column, from 1, where format is tsv", value)
    expected = max(numbers) if columns is None else columns
    if expected < max(numbers):
        raise ArgumentError("columns", f">= {max(numbers)}, the last one used", columns)
    source, target = (number - 1 for number in numbers)

    def parse(text: str) -> tuple[str, str] | Problem:
        texts = text.split("\t")
        if len(texts) == expected:
            return texts[source], texts[target]
        few = len(texts) < expected
        message = f"must have {expected} tab-separated columns, got {len(texts)}. " + (
            "Check for a missing tab." if few else "Check the line for a stray tab."
        )
        return Problem("too few columns" if few else "too many columns", message)

    return parse


def _json_parser(keys: tuple[str, str]) -> Parser:
    def parse(text: str) -> tuple[str, str] | Problem:
        try:
            item = json.loads(text)
        except (ValueError, RecursionError) as error:
            message = f"must be one JSON object, got no JSON ({error}). Check the quotes and the line break."
            return Problem("not JSON", message)
        if not isinstance(item, dict):
            message = f"must be one JSON object, got {type(item).__name__}. Check the format."
            return Problem("not a JSON object", message)
        problems = [problem for key in keys if (problem := _value_problem(item, key))]
        return problems[0] if problems else (item[keys[0]], item[keys[1]])

    return parse


def _value_problem(item: dict[str, object], key: str) -> Problem | None:
    if key not in item:
        found = ", ".join(sorted(item)) or "none"
        return Problem("missing key", f"must have the key {key!r}, got {found}. Name the keys to read.")
    value = item[key]
    if not isinstance(value, str):
        message = f"{key!r} must be a string, got {type(value).__name__}. Put the text in quotes."
        return Problem("not a string", message)
    if "\0" in value:
        return Problem("NUL character", f"{key!r} must be text, got the character NUL. Remove it.")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        message = f"{key!r} must be valid Unicode, got half a surrogate pair. Write the file again."
        return Problem("not UTF-8", message)
    return None
