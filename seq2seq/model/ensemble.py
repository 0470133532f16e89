"""Several models that translate as one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seq2seq.config import Decoding
from seq2seq.decoding.ensemble import AVERAGES
from seq2seq.model.generation import Generator
from seq2seq.model.translator import Translator

if TYPE_CHECKING:
    from seq2seq.model.seq2seq import Seq2Seq


class Ensemble(Translator):
    """Models whose probabilities are averaged at every step of one search, which beats the best of them as a rule.

    They may differ in everything but their target vocabulary. Each reads the source with its own tokenizer; limits of
    the length count the first model's source tokens.

    Args:
        models: The models.
        average: `log_probs` or `probs`; see `seq2seq.decoding.ensemble_step`.
        decoding: Defaults of `translate` and `generate`; None: the first model's.

    Raises:
        ModelFileError: A model has no tokenizer.
        ValueError: There is no model, another target vocabulary, or an unknown `average`.

    >>> Ensemble([])
    Traceback (most recent call last):
    ValueError: models must hold at least one model, but is empty instead. Load some with seq2seq.load.
    """

    def __init__(
        self, models: Sequence["Seq2Seq"], average: str = "log_probs", decoding: Decoding | None = None
    ) -> None:
        if not models:
            raise ValueError("models must hold at least one model, but is empty instead. Load some with seq2seq.load.")
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, but is {average!r} instead.")
        # The only model of a joint tokenizer, or the target's of two.
        targets = [list(model.require_tokenizer().models.values())[-1] for model in models]
        for place, target in enumerate(targets):
            if target != targets[0]:
                raise ValueError(
                    f"models must share one target vocabulary, but that of models[{place}] is not that of models[0] "
                    "instead. Train them with one tokenizer."
                )
        self.decoding = decoding or models[0].decoding
        self._generator = Generator(models, average)
