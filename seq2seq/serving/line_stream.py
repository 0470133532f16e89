"""Answer a stream of lines: every line has one answer, in order, and a bad line costs no other line its answer."""

import contextlib
import dataclasses
import functools
import io
import itertools
import json
import logging
import os
import pathlib
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn, Protocol, TextIO

from seq2seq.errors import ConfigError, DataError
from seq2seq.progress import ProgressBar
from seq2seq.text.ids import END_ID
from seq2seq.text.lines import TOO_LONG, Line, Problem, read_lines, scan_lines, scan_stream
from seq2seq.threads import windows

LOG = logging.getLogger(__name__)

Format = Literal["text", "jsonl"]

WINDOW_LINES = 2048
WINDOW_CHARACTERS = 1 << 20
"""Most characters of the lines of a window: the bound on memory for long lines."""
PATIENCE = 0.05
"""Seconds that lines from a pipe or a terminal wait for the next line before they are answered without it."""

BLANK, STOPPED, TRUNCATED = "blank", "stopped at the longest length", "with a source that was cut"

_LINE_BREAKS = str.maketrans("\r\n", "  ")


@dataclasses.dataclass(frozen=True)
class Request:
    """One line of input, or one line of each of two files; `is_usable` if it has an answer in spite of its problem."""

    where: str
    source: str = ""
    target: str = ""
    prefix: str = ""
    required: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    problem: Problem | None = None
    is_usable: bool = True


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a request: its lines as text, its keys as a JSON object, and what the report counts."""

    request: Request
    lines: Sequence[str] = ("",)
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    problem: Problem | None = None
    note: str | None = None
    num_truncated_tokens: int = 0

    def to_text(self) -> str:
        """Return the lines of the answer; line breaks within a line become spaces."""
        return "".join(f"{on_one_line(line)}\n" for line in self.lines)

    def to_json(self) -> str:
        """Return the answer as one line of JSON."""
        record: dict[str, Any] = {"source": self.request.source, **self.request.record, **self.fields}
        if self.num_truncated_tokens:
            record["source_tokens_left_out"] = self.num_truncated_tokens
        if self.problem is not None:
            record["problem"] = self.problem.message
        return json.dumps(record, ensure_ascii=False) + "\n"


Progress = Callable[[int], None]
"""Function to call with the number of further requests done."""


class Answerer:
    """Answer usable requests, of which `first_index` came before, and refuse the others."""

    def answer(self, requests: Sequence[Request], first_index: int, progress: Progress) -> Iterable[Answer]:
        """Answer the usable requests of a window, in order."""
        raise NotImplementedError

    def refuse(self, request: Request, problem: Problem | None) -> Answer:
        """Return the empty answer to a request with a problem."""
        return Answer(request, problem=problem)


class Translates(Protocol):
    """A `Seq2Seq` or an `Ensemble`."""

    decoding: Any

    def generate(self, texts: Sequence[str], attention: bool = False, **options: Any) -> list[list[Any]]: ...


class ReadsText(Protocol):
    """A `TextModel`; this room does not import TensorFlow."""

    def source_pieces(self, text: str) -> list[str]: ...

    def memory_tokens(self, text: str) -> tuple[str, ...]: ...


class PredictsLabels(Protocol):
    """A `LabelPredictor`."""

    labels: Any

    def predict_labels(self, texts: Sequence[str], *, progress: Progress) -> Sequence[Any]: ...


class ScoresPairs(Protocol):
    """A model of any kind."""

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> Sequence[Any]: ...


class Translations(Answerer):
    """Answer with translations, in JSON with the tokens of `reader` and attention weights on request."""

    def __init__(
        self, translator: Translates, reader: ReadsText | None = None, attention: bool = False, **options: Any
    ) -> None:
        self._translator, self._reader, self._attention, self._options = translator, reader, attention, options
        self._count = translator.decoding.replaced(**options).n_best

    def answer(self, requests: Sequence[Request], first_index: int, progress: Progress) -> Iterable[Answer]:
        constraints: dict[str, list[Any]] = {
            "prefixes": [request.prefix for request in requests],
            "required": [request.required for request in requests],
            "banned": [request.banned for request in requests],
        }
        errors: dict[int, Exception] = {}
        results = self._translator.generate(
            [request.source for request in requests],
            self._reader is not None,
            first_index=first_index,
            progress=progress,
            on_error=errors.__setitem__,
            **{name: entries for name, entries in constraints.items() if any(entries)},
            **self._options,
        )
        for index, (request, hypotheses) in enumerate(zip(requests, results, strict=True)):
            if index in errors:
                yield self.refuse(request, Problem("refused by the search", str(errors[index])))
            else:
                yield self._translated(request, hypotheses)

    def refuse(self, request: Request, problem: Problem | None) -> Answer:
        return Answer(request, [""] * self._count, {"translations": []}, problem)

    def _translated(self, request: Request, hypotheses: Sequence[Any]) -> Answer:
        # Every source has the same number of lines, so that line numbers stay aligned.
        lines = [found.text for found in hypotheses] + [""] * (self._count - len(hypotheses))
        fields: dict[str, Any] = {}
        if self._reader is not None:
            fields["source_tokens"] = self._reader.source_pieces(request.source)
            memory_tokens = self._reader.memory_tokens(request.source)
            if len(memory_tokens) < len(fields["source_tokens"]):
                fields["source_windows"] = memory_tokens
        fields["translations"] = [self._fields(found) for found in hypotheses]
        note = STOPPED if hypotheses[0].token_ids[-1] != END_ID else None
        note = note if request.source.strip() else BLANK
        return Answer(request, lines, fields, request.problem, note, hypotheses[0].num_truncated_tokens)

    def _fields(self, found: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {"text": found.text, "score": found.score, "log_prob": found.log_prob}
        if self._reader is not None:
            fields |= {"tokens": found.pieces, "token_log_probs": found.token_log_probs, "alignment": found.alignment}
        if self._attention:
            weights = found.attention_weights
            fields["attention"] = None if weights is None else weights.astype(float).round(4).tolist()
        return fields


class Labels(Answerer):
    """Answer with labels and their probabilities."""

    def __init__(self, model: PredictsLabels) -> None:
        self._model = model

    def answer(self, requests: Sequence[Request], first_index: int, progress: Progress) -> Iterable[Answer]:
        predictions = self._model.predict_labels([request.source for request in requests], progress=progress)
        for request, found in zip(requests, predictions, strict=True):
            line = f"{found.text}\t{' '.join(f'{best:.4f}' for best in found.probabilities.max(axis=-1))}"
            rows = found.probabilities.round(6).tolist()
            probabilities = [dict(zip(self._model.labels, row, strict=True)) for row in rows]
            fields = {"labels": found.labels, "probabilities": probabilities}
            note = None if request.source.strip() else BLANK
            lines = [line if found.labels else ""]
            yield Answer(request, lines, fields, request.problem, note, found.num_truncated_tokens)


@dataclasses.dataclass
class Scores(Answerer):
    """Answer with the log-probabilities of given targets, and sum them up."""

    model: ScoresPairs
    log_prob: float = 0.0
    tokens: int = 0

    def answer(self, requests: Sequence[Request], first_index: int, progress: Progress) -> Iterable[Answer]:
        sources, targets = ([getattr(request, side) for request in requests] for side in ("source", "target"))
        for request, score in zip(requests, self.model.score(sources, targets), strict=True):
            self.log_prob += score.log_prob
            self.tokens += len(score.pieces)
            progress(1)
            fields = {
                "log_prob": score.log_prob,
                "perplexity": score.perplexity,
                "tokens": score.pieces,
                "token_log_probs": score.token_log_probs,
            }
            yield Answer(request, [f"{score.log_prob:.6f}"], fields, None, None, score.num_truncated_tokens)


@dataclasses.dataclass
class StreamReport:
    """Count the answers of a stream and their problems.

    >>> report = StreamReport(lines=3)
    >>> report.count("blank", "<stdin>:2")
    >>> print(report.summary())
    3 lines: 1 blank (<stdin>:2)
    """

    lines: int = 0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    first: dict[str, str] = dataclasses.field(default_factory=dict)
    truncated_tokens: int = 0

    def add(self, answer: Answer) -> None:
        """Count one answer, and log its problem."""
        self.lines += 1
        where, problem = answer.request.where, answer.problem
        if problem is not None:
            self.count(problem.reason, where)
            is_read = problem is answer.request.problem and answer.request.is_usable
            LOG.info(f"{where}: {problem.message}" + " Its beginning is read." * is_read)
        if answer.note is not None:
            self.count(answer.note, where)
        if answer.num_truncated_tokens:
            self.count(TRUNCATED, where)
            self.truncated_tokens += answer.num_truncated_tokens

    def count(self, reason: str, where: str) -> None:
        """Count one line with a reason."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, where)

    def summary(self) -> str:
        """Return the counts in words."""
        parts = [
            f"{count:,} {reason} ({'first: ' if count > 1 else ''}{self.first[reason]})"
            for reason, count in sorted(self.counts.items())
        ]
        if self.truncated_tokens:
            parts.append(f"{self.truncated_tokens:,} source tokens left out")
        return f"{self.lines:,} line{'' if self.lines == 1 else 's'}: " + ("; ".join(parts) or "all well")


@dataclasses.dataclass(frozen=True)
class LineStream:
    """Read lines of a file or of standard input, and write their answers, as the flags of the same names say."""

    file: str
    output: str | None
    format: Format
    input_format: Format | None
    window: int
    max_line_characters: int | None

    def __post_init__(self) -> None:
        for flag, value in (("--window", self.window), ("--max-line-characters", self.max_line_characters)):
            if value is not None and value < 1:
                raise ConfigError(f"{flag} must be at least 1, got {value}.")
        if self.file != "-":
            refuse_same_file(self.output, self.file)

    def answer(self, answerer: Answerer) -> None:
        """Write the answer of every line as soon as it is there, and the counts of problems at the end."""
        parse = json_request if (self.input_format or self.format) == "jsonl" else text_request
        options = {} if self.max_line_characters is None else {"max_line_characters": self.max_line_characters}
        if self.file == "-":
            # An own reader: the lock of Python's is held while it waits for input, even when the program ends.
            stdin = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
            lines = scan_stream(stdin, "<stdin>", **options)
        else:
            lines = scan_lines(self.file, **options)
        # A file is there as a whole; the next line of a pipe may be minutes away.
        patience = None if _is_regular(self.file) else PATIENCE
        requests = (parse(line) for line in lines)
        answer_requests(requests, answerer, self.output, self.format, self.window, patience, _count_lines(self.file))


def answer_requests(
    requests: Iterable[Request],
    answerer: Answerer,
    output: str | None,
    format: Format | None,  # noqa: A002 - the word of the flag
    window: int = WINDOW_LINES,
    patience: float | None = None,
    total: int | None = None,
    unit: str = "line",
) -> StreamReport:
    """Answer requests window by window, and write the answers, unless `format` is None; memory holds one window."""
    report = StreamReport()
    cut = windows(requests, window, lambda one: len(one.source) + len(one.target), WINDOW_CHARACTERS, patience)
    with (
        opened_output(output) as stream,
        contextlib.closing(cut),
        # Answers that appear in the terminal are progress enough.
        ProgressBar(total, unit, hidden=stream.isatty() and format is not None) as bar,
    ):
        try:
            for answer in _answers(cut, answerer, bar.advance):
                report.add(answer)
                if format is not None:
                    # In one piece, so that a kill leaves whole lines.
                    stream.write(answer.to_json() if format == "jsonl" else answer.to_text())
        finally:
            if report.counts:
                LOG.info(report.summary())
    return report


def _answers(
    request_windows: Iterable[Sequence[Request]], answerer: Answerer, progress: Callable[[int], None]
) -> Iterator[Answer]:
    first_index = 0
    for window in request_windows:
        usable = [request for request in window if request.is_usable]
        if len(usable) < len(window):
            progress(len(window) - len(usable))
        answers = iter(answerer.answer(usable, first_index, progress) if usable else ())
        first_index += len(usable)
        for request in window:
            yield next(answers) if request.is_usable else answerer.refuse(request, request.problem)


def text_request(line: Line) -> Request:
    """Take a line of plain text as a source."""
    is_usable = line.problem is None or line.problem.reason == TOO_LONG
    return Request(line.where, line.text, problem=line.problem, is_usable=is_usable)


def json_request(line: Line) -> Request:
    """Parse a line as a JSON object with the key `source`.

    `prefix` (a string), `required` and `banned` (lists of strings) constrain the translation; all other keys are the
    caller's.

    >>> request = json_request(Line("<stdin>:1", '{"id": 7, "source": "a cat", "required": ["chat"]}'))
    >>> request.source, request.required, request.record["id"]
    ('a cat', ('chat',), 7)
    """
    problem, record = (line.problem, {}) if line.problem else _parse(line.text)
    if problem is not None:
        if problem.reason == TOO_LONG:
            # The beginning of an object is none.
            problem = problem._replace(reason="JSON line too long")
        return Request(line.where, record=record, problem=problem, is_usable=False)
    required, banned = (tuple(record.get(key, ())) for key in ("required", "banned"))
    return Request(line.where, record["source"], "", record.get("prefix", ""), required, banned, record)


def _parse(text: str) -> tuple[Problem | None, dict[str, Any]]:
    try:
        record = json.loads(text, parse_constant=_refuse_constant)
        # Half a surrogate pair is legal in JSON and nowhere else.
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Problem("not Unicode", "must be valid Unicode, but holds half a surrogate pair."), {}
    except (ValueError, RecursionError) as error:
        return Problem("not JSON", f"must be a JSON object, but is none ({error})."), {}
    if not isinstance(record, dict):
        return Problem("not JSON", f"must be a JSON object, got {_kind(record)}."), {}
    if not isinstance(record.get("source"), str):
        given = _kind(record["source"]) if "source" in record else "none"
        return Problem("no source", f'"source" must be a string, got {given}.'), record
    if not isinstance(record.get("prefix", ""), str):
        return Problem("bad option", f'"prefix" must be a string, got {_kind(record["prefix"])}.'), record
    for key in ("required", "banned"):
        phrases = record.get(key, [])
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            return Problem("bad option", f'"{key}" must be a list of strings, got {phrases!r}.'), record
    return None, record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def pair_requests(source: str, target: str) -> Iterator[Request]:
    """Pair the lines of two files, or raise `DataError` if one ends before the other."""
    pairs = itertools.zip_longest(scan_lines(source), scan_lines(target))
    for number, (source_line, target_line) in enumerate(pairs, start=1):
        if source_line is None or target_line is None:
            longer, shorter = (source, target) if target_line is None else (target, source)
            raise DataError(
                f"{longer}:{number}: must have a partner, but {shorter} ends after line {number - 1}. "
                "Check that both files are complete and aligned."
            )
        bad = source_line if source_line.problem else target_line
        yield Request(
            bad.where,
            source_line.text,
            target_line.text,
            record={"target": target_line.text},
            problem=bad.problem,
            is_usable=bad.problem is None,
        )


def read_aligned(path: str, partner: str, count: int) -> list[str]:
    """Read the lines of a file, or raise `DataError` if they are not as many as those of its partner."""
    lines = list(read_lines(path))
    if len(lines) != count:
        raise DataError(
            f"{path}: must have as many lines as {partner} ({count}), got {len(lines)}. "
            "Check that no line was lost or added."
        )
    return lines


def refuse_same_file(output: str | None, *inputs: str) -> None:
    """Raise `ConfigError` for an output that would overwrite an input."""
    if output is not None and pathlib.Path(output).resolve() in [pathlib.Path(file).resolve() for file in inputs]:
        raise ConfigError(f"--output must be another file than the input, got {output}. Name another.")


@contextlib.contextmanager
def opened_output(output: str | None) -> Iterator[TextIO]:
    """Open a file or standard output as UTF-8, each call of `write` passed on at once."""
    try:
        if output is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", newline="\n", line_buffering=True)
            yield sys.stdout
            return
        with open(output, "w", encoding="utf-8", newline="\n", buffering=1) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "<stdout>" if output is None else output
        raise DataError(f"{name}: the results cannot be written: {error.strerror}.") from error


def on_one_line(text: str) -> str:
    r"""Replace line breaks by spaces, so that line numbers stay aligned.

    >>> on_one_line("a cat\nand a dog")
    'a cat and a dog'
    """
    return text.translate(_LINE_BREAKS)


def _is_regular(file: str) -> bool:
    return stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode) if file == "-" else pathlib.Path(file).is_file()


def _count_lines(file: str) -> int | None:
    if file == "-" or file.endswith(".gz") or not _is_regular(file):
        return None
    with open(file, "rb") as stream:
        return sum(block.count(b"\n") for block in iter(functools.partial(stream.read, 1 << 20), b""))
