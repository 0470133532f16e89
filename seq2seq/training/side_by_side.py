"""A test set, one system or two: all scores, how sure they are, and whether the systems differ."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from seq2seq.config import LABEL_TASKS
from seq2seq.metrics import (
    PairedTestKind,
    compare_labels,
    compare_perplexities,
    compare_summaries,
    compare_systems,
    label_confusion,
)
from seq2seq.model import SourceReader
from seq2seq.training.evaluation import by_source_length, labels_of


class System(NamedTuple):
    """What a system makes of a test set.

    Attributes:
        name: What the scores call it.
        hypotheses: Its translations of the sources.
        references: The log-probability that its model gives each reference, and the number of its tokens; None where
            there is no model.
    """

    name: str
    hypotheses: list[str]
    references: list[tuple[float, int]] | None = None

    @classmethod
    def of(
        cls, model: SourceReader, name: str, sources: Sequence[str], references: Sequence[str], **options: Any
    ) -> "System":
        """Let a model translate a test set and score its right translations.

        Args:
            model: A model with a tokenizer.
            name: What the scores are to call it.
            sources: Source texts.
            references: Their right targets, as many.
            **options: As for `model.translate`.
        """
        scores = [(score.log_prob, len(score.pieces)) for score in model.score(sources, references)]
        return cls(name, model.answers(sources, **options), scores)


def side_by_side(
    systems: Sequence[System],
    sources: Sequence[str],
    references: Sequence[str],
    *,
    task: str = "translate",
    lowercase: bool = False,
    tokenize: str = "13a",
    test: PairedTestKind = "bootstrap",
) -> list[dict[str, Any]]:
    """All scores of one system or more, and whether the others differ from the first by more than chance.

    Args:
        systems: What is compared.
        sources: Source texts.
        references: Their right targets.
        task: What the systems do with the sources, as in `Config`.
        lowercase: As for `seq2seq.metrics.compare_systems`, of translations; also the next.
        tokenize: BLEU's tokenizer.
        test: The paired test.

    Returns:
        For each system its name as `system`; `loss` and `perplexity` where it is a model; the scores of
        `seq2seq.metrics.compare_systems`, or of `compare_summaries`; `sentences`; the `signature` of each score;
        `confidence`, the `mean` and `margin` of each, as in `seq2seq.metrics.Estimate`; `p_value` of each, for all
        systems but the first; and BLEU or ROUGE-L `by_length`.
    """
    hypotheses = [system.hypotheses for system in systems]
    if of_labels := task in LABEL_TASKS:
        right = labels_of(task, references)
        estimates = compare_labels([labels_of(task, targets) for targets in hypotheses], right)
    elif task == "summarize":
        estimates = compare_summaries(hypotheses, references, sources, test=test)
    else:
        estimates = compare_systems(hypotheses, references, lowercase=lowercase, tokenize=tokenize, test=test)
    found: list[dict[str, Any]] = []
    for system, of_texts, perplexity in zip(systems, estimates, _perplexities(systems, test), strict=True):
        scores: dict[str, Any] = {"system": system.name}
        if system.references is not None:
            log_prob, tokens = map(sum, zip(*system.references, strict=True))
            scores["loss"] = -log_prob / tokens
        every = perplexity | of_texts
        scores |= {name: estimate.value for name, estimate in every.items()}
        scores["sentences"] = len(references)
        scores["signature"] = {name: estimate.signature for name, estimate in every.items()}
        scores["confidence"] = {
            name: {"mean": estimate.mean, "margin": estimate.margin} for name, estimate in every.items()
        }
        if found:
            scores["p_value"] = {name: estimate.p_value for name, estimate in every.items()}
        if of_labels:
            scores["confusion"] = label_confusion(labels_of(task, system.hypotheses), right)
        scores["by_length"] = by_source_length(
            task, sources, system.hypotheses, references, lowercase=lowercase, tokenize=tokenize
        )
        found.append(scores)
    return found


def _perplexities(systems: Sequence[System], test: PairedTestKind) -> list[dict[str, Any]]:
    """The perplexity of each system that has one, tested together only where all are of the same tokens."""
    counts = {system.references and tuple(count for _, count in system.references) for system in systems}
    pairs = [system.references for system in systems if system.references is not None]
    if len(counts) == 1 and pairs:
        return [{"perplexity": estimate} for estimate in compare_perplexities(pairs, test=test)]
    return [
        {} if system.references is None else {"perplexity": compare_perplexities([system.references], test=test)[0]}
        for system in systems
    ]
