"""Scores a stream of pairs: every pair has its line, in order, and one that cannot be read costs no other."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from seq2seq.errors import DataError
from seq2seq.serving.stream import StreamReport
from seq2seq.text import Problem, scan_lines

if TYPE_CHECKING:
    from seq2seq.model import PairScore, Seq2Seq


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
    say: Callable[[str], None],
) -> Iterator[ScoredPair]:
    """The scores of pairs, in their order; memory holds one window.

    A pair with a problem has no score, and is said and counted: half of a line that is too long would not do.

    Args:
        model: What scores.
        pair_windows: Pairs that are scored together.
        report: Is filled in.
        say: Is called with a line of text about each pair without a score.
    """
    for window in pair_windows:
        usable = [pair for pair in window if pair.problem is None]
        scores = iter(model.score([pair.source for pair in usable], [pair.target for pair in usable]))
        for pair in window:
            if pair.problem is not None:
                report.note(pair.problem.reason, pair.where)
                say(f"{pair.where}: {pair.problem.message}")
            score = next(scores) if pair.problem is None else None
            if score is not None:
                report.note_cut(score.left_out, pair.where)
            report.lines += 1
            yield ScoredPair(pair, score)
