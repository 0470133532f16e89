"""BLEU on lower-cased text in Moses tokens: what many papers report, and not comparable with sacreBLEU's 13a.

Needs sacremoses, which the extra `metrics` brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from seq2seq.errors import MissingDependencyError
from seq2seq.metrics.checks import check_pairs
from seq2seq.metrics.translation import Score, bleu


def tokenized_bleu(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    language: str,
    references_are_tokenized: bool = False,
) -> Score:
    """BLEU after Moses' punctuation normalization, lower-casing and Moses' tokenizer.

    Args:
        hypotheses: the generated texts, plain.
        references: the right ones.
        language: the code of their language, such as `de`; it decides on abbreviations and apostrophes.
        references_are_tokenized: whether the references went through all that already, as in the tokenized
            files that come with some corpora. They are then used as they are.

    Returns:
        BLEU, with sacreBLEU's signature and the tokenizer's name, version and language.

    Raises:
        DataError: for empty lists or unequal counts.
        MissingDependencyError: where sacremoses is not installed.
    """
    check_pairs(hypotheses, references)
    sacremoses = _import_sacremoses()
    normalizer = sacremoses.MosesPunctNormalizer(lang=language)
    tokenizer = sacremoses.MosesTokenizer(lang=language)

    def tokenize(text: str) -> str:
        return tokenizer.tokenize(normalizer.normalize(text.lower()), return_str=True)

    tokenized_references = references if references_are_tokenized else [tokenize(text) for text in references]
    score = bleu([tokenize(text) for text in hypotheses], tokenized_references, lowercase=True, tokenize="none")
    return Score(score.value, f"{score.signature}|moses:{sacremoses.__version__}|lang:{language}")


def _import_sacremoses() -> ModuleType:
    try:
        import sacremoses
    except ImportError as error:
        raise MissingDependencyError(
            "BLEU on Moses tokens needs sacremoses, which is not installed. "
            "Install it with: pip install 'seq2seq[metrics]'"
        ) from error
    return sacremoses
