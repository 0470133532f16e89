"""What a model and an ensemble of models have in common: they translate."""

from collections.abc import Callable, Sequence
from typing import Any

from seq2seq.config import Decoding
from seq2seq.model.generation import Generator
from seq2seq.model.hypothesis import Hypothesis
from seq2seq.model.wishes import wishes


class Translator:
    """Text in, text out.

    Attributes:
        decoding: Defaults of `translate` and `generate`.
    """

    decoding: Decoding
    _generator: Generator

    def generate(
        self,
        texts: Sequence[str],
        attention: bool = False,
        *,
        prefixes: Sequence[str | None] | None = None,
        required: Sequence[Sequence[str]] | None = None,
        banned: Sequence[Sequence[str]] | None = None,
        first_index: int = 0,
        progress: Callable[[int], None] | None = None,
        **options: Any,
    ) -> list[list[Hypothesis]]:
        """Searches for the targets of sources, the `n_best` of each, best first.

        What is found for a source does not depend on the others, on their order or on how they are batched; only what
        is drawn with `sample` depends on a source's place too.

        Args:
            texts: Sources. A blank one gives one blank hypothesis, unless its target has a prefix or required phrases.
            attention: Whether each hypothesis tells what its tokens attended to.
            prefixes: What each target starts with, in place of the option `prefix`; None or blank: as that says.
            required: Words or phrases that each target holds, besides those of the option `required_phrases`.
            banned: Words or phrases that each target does not hold, besides those of the option `banned_phrases`.
            first_index: Place of the first source in a longer list that comes in pieces, for `sample`.
            progress: Is called with how many more sources are done, batch by batch.
            **options: Settings of `seq2seq.config.Decoding` that differ from the model's own, such as `beam_size`.

        Returns:
            A list of hypotheses a source, in the order of `texts`.

        Raises:
            ConfigError: An option has a bad value.
            DataError: A prefix or phrase cannot be written, or not within the length limit; the message says which.
            ModelFileError: The model has no tokenizer.
            TypeError: `texts` is one string, which would be read letter by letter.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of strings, but is {texts!r} instead. Put it into a list.")
        changed = self.decoding.replaced(**options)
        wanted = wishes(texts, changed, prefixes, required, banned)
        return self._generator.generate(list(texts), changed, attention, wanted, first_index, progress)

    def translate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """The best target of each source, as strings in the same order; a blank source gives a blank one.

        Args:
            texts: Sources.
            **options: As for `generate`.
        """
        return [hypotheses[0].text for hypotheses in self.generate(texts, **options | {"n_best": 1})]
