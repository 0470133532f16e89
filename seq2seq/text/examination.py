"""What is wrong with the texts of a corpus, found in one pass over each file, and one more as a tokenizer cuts them."""

from collections.abc import Callable, Iterable, Iterator

from seq2seq.errors import DataError
from seq2seq.text import findings, token_findings
from seq2seq.text.audit import (
    Occurrences,
    PairStatistics,
    place_of,
    read_pair_statistics,
    read_token_statistics,
    repeated,
    shared,
)
from seq2seq.text.corpora import CorpusReport, Pair
from seq2seq.text.findings import Finding
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.text.truncation import Truncation

Readers = dict[str, Callable[[CorpusReport], Iterator[Pair]]]
"""Give the pairs of each corpus, by its name (`train`, `dev`, `test`), anew each time that they are called."""


def examine_texts(readers: Readers, stops: bool, normalization: str, say: Callable[[str], None]) -> Iterator[Finding]:
    """What can be said of the texts alone.

    Args:
        readers: the corpora; lines that cannot be used are passed over and reported.
        stops: whether the run stops at such a line.
        normalization: that of the tokenizer.
        say: is told what is read.

    Returns:
        An iterator over the findings, as they are made.
    """
    read: dict[str, PairStatistics] = {}
    for name, pairs in readers.items():
        say(f"reading the {name} pairs ...")
        report = CorpusReport()
        try:
            statistics = read_pair_statistics(pairs(report))
        except DataError as error:
            yield Finding(f"{name}.pairs", "problem", str(error), {})
            continue
        # A corpus may be part of a file.
        report.pairs = statistics.pairs
        yield findings.pairs_finding(name, report, stops)
        if not statistics.pairs:
            continue
        read[name] = statistics
        yield findings.lengths_finding(name, statistics)
        again = _placed(repeated(statistics.pair_hashes), pairs)
        yield findings.duplicates_finding(name, again, statistics.pairs)
        yield findings.copies_finding(name, statistics)
        yield findings.ratios_finding(name, statistics)
        yield findings.normal_form_finding(name, statistics, normalization)
        yield findings.control_characters_finding(name, statistics)
    if "train" not in read:
        return
    train = read.pop("train")
    for name, statistics in read.items():
        same_pairs = _placed(shared(statistics.pair_hashes, train.pair_hashes), readers[name])
        same_sources = _placed(shared(statistics.source_hashes, train.source_hashes), readers[name])
        yield from findings.overlap_findings(name, statistics.pairs, same_pairs, same_sources)


def examine_tokens(
    readers: Readers,
    tokenizer: Tokenizer,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
    truncate: str = "none",
    words: bool,
    stops: bool,
    say: Callable[[str], None],
) -> Iterator[Finding]:
    """What can be said of the texts as a tokenizer cuts them; of training also what the limits leave out.

    Args:
        readers: the corpora.
        tokenizer: cuts them.
        max_source_tokens: a longer source is left out of training.
        max_target_tokens: a longer target is left out of training.
        truncate: how a longer source is cut, where it is not left out.
        words: whether tokens are words.
        stops: whether the run stops at a pair over a limit.
        say: is told what is cut.

    Returns:
        An iterator over the findings, as they are made.
    """
    cuts = truncate != "none"
    for name, pairs in readers.items():
        say(f"cutting the {name} pairs into tokens ...")
        statistics = read_token_statistics(
            pairs(CorpusReport()),
            tokenizer,
            max_source_tokens=max_source_tokens,
            max_target_tokens=max_target_tokens,
            cuts=cuts,
            words=words,
        )
        yield token_findings.tokens_finding(name, statistics)
        if name == "train":
            yield token_findings.limits_finding(statistics, max_source_tokens, max_target_tokens, stops, cuts)
        if cuts:
            yield token_findings.cut_finding(name, statistics, Truncation(truncate, max_source_tokens))
        yield token_findings.unknown_finding(name, statistics, words)
        if name != "train":
            yield token_findings.rewritten_finding(name, statistics)


def _placed(found: tuple[int, int | None], pairs: Callable[[CorpusReport], Iterable[Pair]]) -> Occurrences:
    """A count with the place of the first, whose number alone was kept: the file is read again up to there."""
    count, number = found
    return Occurrences(count, None if number is None else place_of(pairs(CorpusReport()), number))
