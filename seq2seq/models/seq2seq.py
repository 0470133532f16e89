"""The model for text: an encoder-decoder that translates, generates and scores strings."""

from collections.abc import Sequence
from typing import Any

import keras

from seq2seq.models.encoder_decoder import EncoderDecoder
from seq2seq.models.generation import Translator
from seq2seq.models.results import Hypothesis
from seq2seq.text.lexicon import learn_lexicon


@keras.saving.register_keras_serializable(package="seq2seq")
class Seq2Seq(EncoderDecoder):
    """Translate text with an encoder-decoder and its tokenizer, which one `.keras` file holds together.

    The model is an ordinary Keras model: `compile` and `fit` work with batches of the dictionary below and no separate
    labels, and so does `keras.saving.load_model`. `seq2seq.training` trains it faster.

    Args:
        encoder: Encodes embedded source tokens as the memory.
        decoder: Writes the target; its context reads the memory.
        source_vocabulary_size: Number of source tokens; None: source and target share the decoder's embedding.
        embedding_dropout: Share of the units of source embeddings to drop in training.
        context_dropout: Share of the units of the memory to drop in training.
        source_word_dropout: Share of source tokens to replace by the unknown token in training.
        target_word_dropout: Share of target tokens that the decoder reads as the unknown token in training.
        label_smoothing: Probability that the loss spreads over the whole vocabulary.
        coverage_loss: Weight of repeated attention in the training loss; see `losses.repeated_attention`.
        force_copy: Whether tokens that are in the source must be copied in training, so that the gate learns when.
        tokenizer: Encodes strings as token ids; without one the model takes and gives token ids only.
        decoding: Default options of `translate` and `generate`.
        recipe: The whole recipe of the run that trained the model.

    Call arguments:
        inputs: `{"source_ids": (batch, source_steps), "target_ids": (batch, target_steps)}`, int32, each row ended by
            an end token and padded on the right.

    Returns:
        Logits of each target token, `(batch, target_steps, target_vocabulary_size)`, float32; log-probabilities if
        the decoder copies.

    Raises:
        ArgumentError: `force_copy` without a decoder that copies, a decoder that copies from another vocabulary or from
            other windows than the encoder's, or `coverage_loss` without attention.

    >>> import numpy as np
    >>> from seq2seq.layers import Decoder, Encoder
    >>> model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
    >>> ids = np.array([[4, 5, 3], [6, 3, 0]], "int32")
    >>> model({"source_ids": ids, "target_ids": ids}).shape.as_list()
    [2, 3, 9]
    """

    def generate(self, texts: Sequence[str], attention: bool = False, **options: Any) -> list[list[Hypothesis]]:
        """Search for the `n_best` targets of each source, best first.

        Args:
            texts: Sources.
            attention: Whether hypotheses hold attention weights.
            **options: Prefixes, required and banned phrases of each source, progress, and settings such as `beam_size`,
                all as in `Ensemble.generate`.

        Returns:
            A list of hypotheses for each source, in order.
        """
        return self._translator().generate(texts, attention, **options)

    def translate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """Return the best target of each source as a string, in order; `options` are those of `generate`."""
        return self._translator().translate(texts, **options)

    def answers(self, texts: Sequence[str], **options: Any) -> list[str]:
        return self.translate(texts, **options)

    def _translator(self) -> Translator:
        return Translator([self], decoding=self.decoding, cache=self._inference)

    def learn_lexicon(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Learn which target tokens translate which source tokens, for the option `shortlist`; saved with the model.

        Args:
            sources: Sources of the training data.
            targets: A target for each.

        Raises:
            DataError: There are no pairs.
        """
        tokenizer = self.require_tokenizer()
        self.lexicon = learn_lexicon(
            tokenizer.source.encode(sources),
            tokenizer.target.encode(targets),
            tokenizer.source.size,
            tokenizer.target.size,
            tokenizer.is_joint,
        )
