"""`seq2seq evaluate`: how good a model is on a test set."""

from typing import Annotated

import cyclopts

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_json, print_scores
from seq2seq.cli.search_options import AS_SAVED, SearchOptions
from seq2seq.errors import ConfigError, DataError


def evaluate(
    model: str,
    /,
    *,
    source: str,
    target: str,
    json: Annotated[bool, cyclopts.Parameter(negative=())] = False,
    lowercase_tokenized: str | None = None,
    language: str | None = None,
    agreement: str | None = None,
    search: Annotated[SearchOptions, cyclopts.Parameter(name="*")] = AS_SAVED,
) -> None:
    """Translate a test set and score the translations.

    Args:
        model: the model.keras of a run.
        source: the lines to translate; may end in .gz.
        target: their right translations, line by line.
        json: print one JSON object, and nothing else.
        lowercase_tokenized: the right translations once more, lowercased and tokenised by Moses: gives the BLEU that
            many papers report.
        language: code of the target's language, for that tokeniser.
        agreement: items of an agreement test; gives the share of right verb forms by number of distracting nouns.
        search: how to search.
    """
    if (lowercase_tokenized is None) != (language is None):
        raise ConfigError("--lowercase-tokenized and --language must be given together, but one is missing. Give both.")
    sources = _read_lines(source)
    references = _read_lines(target, source, len(sources))
    tokenized = None if lowercase_tokenized is None else _read_lines(lowercase_tokenized, source, len(sources))
    import_tensorflow()
    from seq2seq import metrics
    from seq2seq.model import load
    from seq2seq.training import bleu_by_length, evaluate_agreement
    from seq2seq.training import evaluate as score

    items = None if agreement is None else metrics.read_agreement_items(agreement)
    translator = load(model)
    scores, hypotheses = score(translator, sources, references, **search.given())
    scores["by_length"] = bleu_by_length(sources, hypotheses, references)
    if tokenized is not None and language is not None:
        bleu = metrics.tokenized_bleu(hypotheses, tokenized, language=language, references_are_tokenized=True)
        scores["lowercase_tokenized_bleu"] = bleu.value
        scores["signature"]["lowercase_tokenized_bleu"] = bleu.signature
    if items is not None:
        scores["agreement"] = evaluate_agreement(translator, items, **search.given())
    (print_json if json else print_scores)(scores)


def _read_lines(path: str, partner: str = "", expected: int | None = None) -> list[str]:
    from seq2seq.text import read_lines

    lines = list(read_lines(path))
    if expected is not None and len(lines) != expected:
        raise DataError(
            f"{path}: must have as many lines as {partner} ({expected}), but has {len(lines)} instead. "
            "Check that no line was lost or added."
        )
    return lines
