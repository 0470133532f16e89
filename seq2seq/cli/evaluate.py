"""`seq2seq evaluate`: how good a model is on a test set."""

from typing import Annotated, Any

import cyclopts

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
    sources, references = _read_lines(source), _read_lines(target)
    _check_counts(source, sources, target, references)
    # TensorFlow takes seconds to import: only now, so that help and mistakes in flags are answered at once.
    from seq2seq import metrics, training
    from seq2seq.model import load

    items = None if agreement is None else metrics.read_agreement_items(agreement)
    translator = load(model)
    scores, hypotheses = training.evaluate(translator, sources, references, **search.given())
    scores["by_length"] = [
        {"shortest": part.shortest, "longest": part.longest, "sentences": part.sentences, "bleu": part.score.value}
        for part in metrics.score_by_length(metrics.bleu, hypotheses, references, sources)
    ]
    if lowercase_tokenized is not None and language is not None:
        tokenized = _read_lines(lowercase_tokenized)
        _check_counts(source, sources, lowercase_tokenized, tokenized)
        score = metrics.tokenized_bleu(hypotheses, tokenized, language=language, references_are_tokenized=True)
        scores["lowercase_tokenized_bleu"] = score.value
        scores["signature"]["lowercase_tokenized_bleu"] = score.signature
    if items is not None:
        translations = translator.translate([item.source for item in items], **search.given())
        scores["agreement"] = [
            {"distractors": distractors, "sentences": sum(score), "accuracy": score.accuracy}
            for distractors, score in metrics.agreement_accuracy(translations, items).items()
        ]
    print_scores(scores, as_json=json)


def print_scores(scores: dict[str, Any], as_json: bool) -> None:
    """Print scores: one JSON object, or a line each, with lists of scores as tables below their name."""
    if as_json:
        import json

        print(json.dumps(scores, ensure_ascii=False))
        return
    for name, value in scores.items():
        if isinstance(value, list):
            print(f"{name}:")
            for row in value:
                print("  " + "  ".join(f"{column} {_shown(cell)}" for column, cell in row.items()))
        elif isinstance(value, dict):
            for key, cell in value.items():
                print(f"{name} of {key}: {_shown(cell)}")
        else:
            print(f"{name}: {_shown(value)}")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _read_lines(path: str) -> list[str]:
    from seq2seq.text import read_lines

    return list(read_lines(path))


def _check_counts(source: str, sources: list[str], target: str, references: list[str]) -> None:
    if len(sources) != len(references):
        raise DataError(
            f"{target} must have as many lines as {source} ({len(sources)}), but has {len(references)} instead. "
            "Check that no line was lost or added."
        )
