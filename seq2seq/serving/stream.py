"""Translates a stream: every line has its answer, in order, and a line that cannot be translated costs no other."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from seq2seq.errors import ConfigError, Seq2SeqError
from seq2seq.serving.requests import Request
from seq2seq.text import END_ID, Problem
from seq2seq.text.lines import TOO_LONG

if TYPE_CHECKING:
    from seq2seq.model import LabelModel, Seq2Seq

BLANK, STOPPED, CUT = "blank", "stopped at the longest length", "with a source that was cut"


class Answer(NamedTuple):
    """What became of a request: its `Hypothesis`es, best first, or its one `Labelling`, or why there is none."""

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
    say: Callable[[str], None],
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
        say: Is called with a line of text about each line that could not be translated as it stood.
        attention: Whether hypotheses tell what their tokens attended to.
        progress: Is called with how many more lines are done, also before the first of a window has its answer.
        **options: Settings of `seq2seq.config.Decoding` that differ from the model's own.
    """
    settings = {"attention": attention, "progress": progress, **options}
    return _stream(
        functools.partial(_search, model, options=settings),
        lambda found: found[0].token_ids[-1] != END_ID,
        request_windows,
        report,
        say,
        progress,
    )


def label_stream(
    model: "LabelModel",
    request_windows: Iterable[Sequence[Request]],
    report: StreamReport,
    say: Callable[[str], None],
    progress: Callable[[int], None] | None = None,
) -> Iterator[Answer]:
    """The labels of requests, as `answer_stream` gives translations: one `Labelling` each.

    Args:
        model: What labels.
        request_windows, report, say, progress: As for `answer_stream`.
    """

    def label(requests: Sequence[Request], _: int) -> list[Any]:
        found = model.predict_labels([request.source for request in requests], progress=progress)
        return [[labelling] for labelling in found]

    return _stream(label, lambda _: False, request_windows, report, say, progress)


def _stream(
    answer_all: Callable[[Sequence[Request], int], list[Any]],
    has_stopped: Callable[[Any], bool],
    request_windows: Iterable[Sequence[Request]],
    report: StreamReport,
    say: Callable[[str], None],
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
                _complain(report, say, request, request.problem)
            if request.problem is not None and request.problem.reason != TOO_LONG:
                answer = Answer(request, [], request.problem.message)
            else:
                answer = _answer(request, next(results), has_stopped, report, say)
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
    say: Callable[[str], None],
) -> Answer:
    if isinstance(result, Seq2SeqError):
        problem = Problem("refused by the search", str(result))
        _complain(report, say, request, problem)
        return Answer(request, [], problem.message)
    if not request.source.strip():
        report.note(BLANK, request.where)
    elif has_stopped(result):
        report.note(STOPPED, request.where)
    if result:
        report.note_cut(result[0].left_out, request.where)
    return Answer(request, result, None if request.problem is None else request.problem.message)


def _complain(report: StreamReport, say: Callable[[str], None], request: Request, problem: Problem) -> None:
    report.note(problem.reason, request.where)
    is_cut = problem.reason == TOO_LONG
    say(f"{request.where}: {problem.message}" + " Its beginning is read." * is_cut)
