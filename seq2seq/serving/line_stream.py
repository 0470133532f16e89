"""Translates a stream: every line has its answer, in order, and a line that cannot be translated costs no other."""

import contextlib
import dataclasses
import functools
import io
import json
import logging
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO

from seq2seq.errors import ConfigError, DataError, Seq2SeqError
from seq2seq.text.ids import END_ID
from seq2seq.text.lines import TOO_LONG, Line, Problem

if TYPE_CHECKING:
    from seq2seq.models.labelers import LabelPredictor
    from seq2seq.models.seq2seq import Seq2Seq
import os
import stat
from typing import TYPE_CHECKING, Literal

from seq2seq.progress import ProgressBar

if TYPE_CHECKING:
    from seq2seq.text.lines import Line
import itertools
from typing import TYPE_CHECKING

from seq2seq.text.lines import scan_lines

if TYPE_CHECKING:
    from seq2seq.models.scoring import PairScore
    from seq2seq.models.seq2seq import Seq2Seq

LOG = logging.getLogger(__name__)


WINDOW_LINES = 2048
WINDOW_CHARACTERS = 1 << 20
"""Characters of the lines that are worked on together, at most: what bounds memory where they are long."""

_LINE_BREAKS = str.maketrans("\r\n", "  ")


def on_one_line(text: str) -> str:
    """A text without the line breaks in it: line numbers say what belongs to what.

    >>> on_one_line("a cat\\nand a dog")
    'a cat and a dog'
    """
    return text.translate(_LINE_BREAKS)


def read_beside(path: str, partner: str, count: int) -> list[str]:
    """The lines of a file, which go with those of another one.

    Args:
        path: the file.
        partner: the other one, for the message.
        count: how many lines that one has.

    Raises:
        DataError: The file cannot be read, or has another number of lines.
    """
    from seq2seq.text.lines import read_lines

    lines = list(read_lines(path))
    if len(lines) != count:
        raise DataError(
            f"{path}: must have as many lines as {partner} ({count}), but has {len(lines)} instead. "
            "Check that no line was lost or added."
        )
    return lines


def refuse_same_file(output: str | None, *inputs: str) -> None:
    """Refuses an output that would overwrite what is being read.

    Raises:
        ConfigError: It is one of the inputs.
    """
    if output is not None and pathlib.Path(output).resolve() in [pathlib.Path(file).resolve() for file in inputs]:
        raise ConfigError(f"--output must be another file than the input, but is {output} too. Name another.")


@contextlib.contextmanager
def opened_output(output: str | None) -> Iterator[TextIO]:
    """A file, or standard output, as UTF-8; what is written to it in one call is passed on in one.

    Raises:
        DataError: It cannot be written.
    """
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


PHRASES = ("required", "banned")


class Request(NamedTuple):
    """One line of input.

    Args:
        where: its file and number, for messages.
        source: what to translate.
        prefix: what the translation shall start with.
        required: words or phrases that it shall hold.
        banned: words or phrases that it shall not hold.
        record: the JSON object that the line was, which goes with its answer.
        problem: what is wrong with the line; where it is too long, `source` is its beginning, otherwise nothing.
    """

    where: str
    source: str = ""
    prefix: str = ""
    required: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()
    record: Mapping[str, Any] = {}
    problem: Problem | None = None


def text_requests(lines: Iterable[Line]) -> Iterator[Request]:
    """The requests of lines of plain text: each is a source."""
    return (Request(line.where, line.text, problem=line.problem) for line in lines)


def json_requests(lines: Iterable[Line]) -> Iterator[Request]:
    """The requests of JSON lines: each is an object with the key `source`.

    `prefix` (a string), `required` and `banned` (lists of strings) say what the translation shall start with, hold
    and not hold. All other keys are the caller's own.

    >>> (request,) = json_requests([Line("<stdin>:1", '{"id": 7, "source": "a cat", "required": ["chat"]}')])
    >>> request.source, request.required, request.record["id"]
    ('a cat', ('chat',), 7)
    """
    return (_json_request(line) for line in lines)


def _json_request(line: Line) -> Request:
    if line.problem is not None:
        # The beginning of an object is none.
        return Request(line.where, problem=line.problem._replace(reason=_worded(line.problem)))
    try:
        record = json.loads(line.text, parse_constant=_refuse_constant)
        # Half a surrogate pair is legal in JSON and nowhere else: neither search nor output could take it.
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _bad(line, "not Unicode", "must be valid Unicode, but holds half a surrogate pair instead.")
    except (ValueError, RecursionError) as error:
        return _bad(line, "not JSON", f"must be a JSON object, but is none ({error}).")
    if not isinstance(record, dict):
        return _bad(line, "not JSON", f"must be a JSON object, but is {_kind(record)} instead.")
    if not isinstance(record.get("source"), str):
        found = f"is {_kind(record['source'])} instead" if "source" in record else "is missing"
        return _bad(line, "no source", f'"source" must be a string, but {found}.', record)
    if not isinstance(record.get("prefix", ""), str):
        return _bad(line, "bad option", f'"prefix" must be a string, but is {_kind(record["prefix"])} instead.', record)
    for key in PHRASES:
        phrases = record.get(key, [])
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            return _bad(line, "bad option", f'"{key}" must be a list of strings, but is {phrases!r} instead.', record)
    return Request(
        line.where,
        record["source"],
        record.get("prefix", ""),
        tuple(record.get("required", ())),
        tuple(record.get("banned", ())),
        record,
    )


def _worded(problem: Problem) -> str:
    return "JSON line too long" if problem.reason == TOO_LONG else problem.reason


def _bad(line: Line, reason: str, message: str, record: Mapping[str, Any] | None = None) -> Request:
    return Request(line.where, record=record or {}, problem=Problem(reason, message))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


BLANK, STOPPED, CUT = "blank", "stopped at the longest length", "with a source that was cut"


class Answer(NamedTuple):
    """What became of a request: its `Hypothesis`es, best first, or its one `LabelPrediction`, or why there is none."""

    request: Request
    hypotheses: Sequence[Any]
    problem: str | None = None


@dataclasses.dataclass
class StreamReport:
    """What became of the lines of a stream.

    Args:
        lines: lines that have their answer.
        counts: by what was notable about some of them, how many.
        first: by what was notable, the place of the first.
        tokens_left_out: tokens that were cut off sources, of all of them together.

    >>> report = StreamReport(lines=3)
    >>> report.note("blank", "<stdin>:2")
    >>> print(report.summary())
    3 lines: 1 blank (<stdin>:2)
    """

    lines: int = 0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    first: dict[str, str] = dataclasses.field(default_factory=dict)
    tokens_left_out: int = 0

    def note(self, reason: str, where: str) -> None:
        """Counts one line."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, where)

    def note_cut(self, tokens: int, where: str) -> None:
        """Counts one line whose source was cut by so many tokens, if it was."""
        if tokens:
            self.note(CUT, where)
            self.tokens_left_out += tokens

    def summary(self) -> str:
        """The counts in words."""
        parts = [
            f"{count:,} {reason} ({'first: ' if count > 1 else ''}{self.first[reason]})"
            for reason, count in sorted(self.counts.items())
        ]
        if self.tokens_left_out:
            parts.append(f"{self.tokens_left_out:,} source tokens left out")
        return f"{self.lines:,} line{'' if self.lines == 1 else 's'}: " + ("; ".join(parts) or "all well")


def answer_stream(
    model: "Seq2Seq",
    request_windows: Iterable[Sequence[Request]],
    report: StreamReport,
    attention: bool = False,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Iterator[Answer]:
    """The answers to requests, in their order; memory holds one window.

    What happens to which line:

    - blank: a blank translation, without asking the model; counted;
    - longer than may be: its beginning is translated; said and counted;
    - not UTF-8, NUL, or as JSON lines no object with a source: no translation; said and counted;
    - one that the search refuses, such as for a required phrase that cannot be written: the same. The other lines of
      its window are searched again one by one;
    - of more tokens than the model's recipe lets a source have: what this says is read; counted, with the tokens;
    - one whose translation reached its longest before it ended: as it is; counted.

    Args:
        model: What translates.
        request_windows: Requests that are searched together.
        report: Is filled in.
        attention: Whether hypotheses tell what their tokens attended to.
        progress: Is called with how many more lines are done, also before the first of a window has its answer.
        **options: Settings of `DecodingConfig` that differ from the model's own.
    """
    settings = {"attention": attention, "progress": progress, **options}
    return _stream(
        functools.partial(_search, model, options=settings),
        lambda found: found[0].token_ids[-1] != END_ID,
        request_windows,
        report,
        progress,
    )


def label_stream(
    model: "LabelPredictor",
    request_windows: Iterable[Sequence[Request]],
    report: StreamReport,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Answer]:
    """The labels of requests, as `answer_stream` gives translations: one `LabelPrediction` each.

    Args:
        model: What labels.
        request_windows, report, progress: As for `answer_stream`.
    """

    def label(requests: Sequence[Request], _: int) -> list[Any]:
        found = model.predict_labels([request.source for request in requests], progress=progress)
        return [[labelling] for labelling in found]

    return _stream(label, lambda _: False, request_windows, report, progress)


def _stream(
    answer_all: Callable[[Sequence[Request], int], list[Any]],
    has_stopped: Callable[[Any], bool],
    request_windows: Iterable[Sequence[Request]],
    report: StreamReport,
    progress: Callable[[int], None] | None,
) -> Iterator[Answer]:
    """The answers of windows of requests; `answer_all` is given those that can be answered, and their number before."""
    answered = 0
    for window in request_windows:
        usable = [request for request in window if request.problem is None or request.problem.reason == TOO_LONG]
        if progress is not None and len(usable) < len(window):
            progress(len(window) - len(usable))
        results = iter(answer_all(usable, answered))
        answered += len(usable)
        for request in window:
            if request.problem is not None:
                _complain(report, request, request.problem)
            if request.problem is not None and request.problem.reason != TOO_LONG:
                answer = Answer(request, [], request.problem.message)
            else:
                answer = _answer(request, next(results), has_stopped, report)
            report.lines += 1
            yield answer


def _search(model: "Seq2Seq", requests: Sequence[Request], first: int, options: dict[str, Any]) -> list[Any]:
    """The hypotheses of each request, or the error that it met."""
    if not requests:
        return []
    wishes: dict[str, Any] = {
        "prefixes": [request.prefix for request in requests],
        "required": [list(request.required) for request in requests],
        "banned": [list(request.banned) for request in requests],
    }
    given = {name: wished for name, wished in wishes.items() if any(wished)}
    sources = [request.source for request in requests]
    try:
        return list(model.generate(sources, first_index=first, **given, **options))
    except ConfigError:
        # Of the options, which are the same for all lines.
        raise
    except Seq2SeqError as error:
        if len(requests) == 1:
            return [error]
    return [
        result for place, request in enumerate(requests) for result in _search(model, [request], first + place, options)
    ]


def _answer(
    request: Request,
    result: Any,
    has_stopped: Callable[[Any], bool],
    report: StreamReport,
) -> Answer:
    if isinstance(result, Seq2SeqError):
        problem = Problem("refused by the search", str(result))
        _complain(report, request, problem)
        return Answer(request, [], problem.message)
    if not request.source.strip():
        report.note(BLANK, request.where)
    elif has_stopped(result):
        report.note(STOPPED, request.where)
    if result:
        report.note_cut(result[0].num_truncated_tokens, request.where)
    return Answer(request, result, None if request.problem is None else request.problem.message)


def _complain(report: StreamReport, request: Request, problem: Problem) -> None:
    report.note(problem.reason, request.where)
    is_cut = problem.reason == TOO_LONG
    LOG.info(f"{request.where}: {problem.message}" + " Its beginning is read." * is_cut)


PATIENCE = 0.05
"""Seconds that lines which are there wait for the next before they are answered without it."""

Format = Literal["text", "jsonl"]


@dataclasses.dataclass(frozen=True)
class LineStream:
    """Where lines come from and answers go, as the flags of those names say."""

    file: str
    output: str | None
    format: Format
    input_format: Format | None
    window: int
    max_line_characters: int | None

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"--window must be at least 1, but is {self.window} instead.")
        if self.max_line_characters is not None and self.max_line_characters < 1:
            raise ConfigError(f"--max-line-characters must be at least 1, but is {self.max_line_characters} instead.")
        if self.file != "-":
            refuse_same_file(self.output, self.file)

    def answer(self, answers: Callable[..., Iterator["Answer"]], written: Callable[["Answer"], list[str]]) -> None:
        """Writes the answer of every line, as soon as there is one, and what became of all at the end.

        Args:
            answers: The answers of windows of requests, of a `StreamReport`, and of `progress`.
            written: The lines of an answer.
        """
        from seq2seq.threads import windows

        read = json_requests if (self.input_format or self.format) == "jsonl" else text_requests
        limit = {} if self.max_line_characters is None else {"max_line_characters": self.max_line_characters}
        requests = read(_scanned(self.file, limit))
        cut = windows(
            requests, self.window, lambda request: len(request.source), WINDOW_CHARACTERS, _patience(self.file)
        )
        report = StreamReport()
        # Answers that appear in the terminal are progress enough.
        with (
            opened_output(self.output) as stream,
            contextlib.closing(cut),
            ProgressBar(_total(self.file), "line", hidden=stream.isatty()) as bar,
        ):
            try:
                for answer in answers(cut, report, progress=bar.advance):
                    # In one piece, so that a kill leaves whole lines.
                    stream.write("".join(f"{line}\n" for line in written(answer)))
            finally:
                if report.counts:
                    LOG.info(report.summary())


def _scanned(file: str, options: dict[str, int]) -> Iterator["Line"]:
    from seq2seq.text.lines import scan_lines, scan_stream

    if file != "-":
        return scan_lines(file, **options)
    # A reader of its own: the lock of Python's is held by whoever waits for input, and wanted when the program ends.
    return scan_stream(open(sys.stdin.fileno(), "rb", closefd=False), "<stdin>", **options)


def _patience(file: str) -> float | None:
    """What is in a file is all there; elsewhere the next line may be a minute, or an answer, away."""
    mode = os.fstat(sys.stdin.fileno()).st_mode if file == "-" else _mode(file)
    return None if stat.S_ISREG(mode) else PATIENCE


def _total(file: str) -> int | None:
    if file == "-" or file.endswith(".gz") or not stat.S_ISREG(_mode(file)):
        return None
    with open(file, "rb") as stream:
        return sum(block.count(b"\n") for block in iter(functools.partial(stream.read, 1 << 20), b""))


def _mode(file: str) -> int:
    path = pathlib.Path(file)
    return path.stat().st_mode if path.exists() else 0


class PairRequest(NamedTuple):
    """A source and a target to score, where they stand, and what is wrong with either."""

    where: str
    source: str
    target: str
    problem: Problem | None = None


class ScoredPair(NamedTuple):
    """What became of a pair: its score, or None where it has a problem."""

    request: PairRequest
    score: "PairScore | None"


def pair_requests(source: str, target: str) -> Iterator[PairRequest]:
    """The pairs of two files, line by line.

    Raises:
        DataError: A file cannot be read, or ends before the other.
    """
    pairs = itertools.zip_longest(scan_lines(source), scan_lines(target))
    for number, (source_line, target_line) in enumerate(pairs, start=1):
        if source_line is None or target_line is None:
            longer, shorter = (source, target) if target_line is None else (target, source)
            raise DataError(
                f"{longer}:{number}: must have a partner, but {shorter} ends after line {number - 1} instead. "
                "Check that both files are complete and aligned."
            )
        bad = source_line if source_line.problem else target_line
        yield PairRequest(bad.where, source_line.text, target_line.text, bad.problem)


def score_stream(
    model: "Seq2Seq",
    pair_windows: Iterable[Sequence[PairRequest]],
    report: StreamReport,
) -> Iterator[ScoredPair]:
    """The scores of pairs, in their order; memory holds one window.

    A pair with a problem has no score, and is said and counted: half of a line that is too long would not do.

    Args:
        model: What scores.
        pair_windows: Pairs that are scored together.
        report: Is filled in.
    """
    for window in pair_windows:
        usable = [pair for pair in window if pair.problem is None]
        scores = iter(model.score([pair.source for pair in usable], [pair.target for pair in usable]))
        for pair in window:
            if pair.problem is not None:
                report.note(pair.problem.reason, pair.where)
                LOG.info(f"{pair.where}: {pair.problem.message}")
            score = next(scores) if pair.problem is None else None
            if score is not None:
                report.note_cut(score.num_truncated_tokens, pair.where)
            report.lines += 1
            yield ScoredPair(pair, score)
