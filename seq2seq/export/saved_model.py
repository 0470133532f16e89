"""SavedModel: the whole translator, from strings or ids on, for a TensorFlow without this package.

Its graphs use portable operations whatever machine they were made on: traced where there is a GPU, they would hold
cuDNN's kernels, and run nowhere else.
"""

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import MissingDependencyError
from seq2seq.export.inference_functions import InferenceFunctions
from seq2seq.export.parity import translate_in_batches
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.ids import END_ID, PAD_ID
from seq2seq.text.tokenizer import Tokenizer, Truncation

BLANK = r"[\s\p{Z}\x{1c}-\x{1f}\x{85}]*"
"""Python's white space."""


def write_saved_model(
    model: Seq2Seq, options: DecodingConfig, folder: pathlib.Path, *, attention: bool = False, strings: bool = True
) -> None:
    """Write a SavedModel with four signatures.

    `encode` and `step` are those of `InferenceFunctions`; `translate_ids` maps `source_ids` to `Hypotheses`;
    `translate`, the default, maps `sources`, `(batch,)` strings, to `texts`, `(batch, n_best)`, all fields of the
    hypotheses, and `source_ids`. Without `strings` there is no `translate`, and no need for tensorflow-text.
    """
    clone = clone_with_implementation(model, "scan")
    functions = InferenceFunctions(clone)
    translate_ids = functions.compile_translation(options, attention)
    step = tf.function(lambda **tensors: functions.step(**tensors), autograph=False)
    signatures = {
        "translate_ids": tf.function(translate_ids, [functions.source_spec], autograph=False),
        "encode": tf.function(functions.encode, [functions.source_spec], autograph=False),
        "step": step.get_concrete_function(**functions.step_specs),
    }
    saved = tf.Module()
    # Copies of reduced precision are constants of the graph.
    saved.weights = [weight.value for weight in clone.weights]
    if strings:
        text = _TextTranslator(model.require_tokenizer(), model.truncation, translate_ids)
        saved.tokenizers = text.tokenizers
        strings_spec = tf.TensorSpec([None], tf.string, "sources")
        signatures["translate"] = tf.function(text.translate, [strings_spec], autograph=False)
    signatures["serving_default"] = signatures["translate" if strings else "translate_ids"]
    # The kernels' custom gradients read what only a graph in training keeps.
    no_gradients = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(saved, str(folder), signatures, no_gradients)


def translate_with_saved_model(folder: pathlib.Path, model: Seq2Seq, sources: Sequence[str]) -> list[tuple[str, float]]:
    """Return the best translation of each source and its score, by an export on disk."""
    exported = tf.saved_model.load(str(folder)).signatures
    tokenizer = model.require_tokenizer()

    def translate(batch: list[str]) -> Iterable[tuple[str, float]]:
        if "translate" in exported:
            found = exported["translate"](sources=tf.constant(batch))
            texts = [text.decode("utf-8") for text in found["texts"][:, 0].numpy()]
        else:
            found = exported["translate_ids"](source_ids=tf.constant(pad(model.encode_sources(batch))))
            texts = tokenizer.target.decode(found["token_ids"][:, 0].numpy())
        return zip(texts, found["scores"][:, 0].numpy().tolist(), strict=True)

    return translate_in_batches(sources, translate, has_strings="translate" in exported)


class _TextTranslator:
    """Translation of strings: SentencePiece as operations of a graph, before and after a search on ids."""

    def __init__(
        self, tokenizer: Tokenizer, truncation: Truncation, translate_ids: Callable[..., dict[str, Any]]
    ) -> None:
        try:
            import tensorflow_text
        except ImportError as error:
            raise MissingDependencyError(
                "Strings in a SavedModel need tensorflow-text. Install it with pip install 'seq2seq[saved_model]', or "
                "export ids alone with --ids."
            ) from error
        first, *second = tokenizer.models.values()
        self._source = tensorflow_text.SentencepieceTokenizer(first, add_eos=True)
        self._target = tensorflow_text.SentencepieceTokenizer(second[0]) if second else self._source
        self.tokenizers = [self._source, self._target]
        self._truncation = truncation
        self._translate_ids = translate_ids

    def translate(self, sources: Any) -> dict[str, Any]:
        """Return the texts and all fields of the hypotheses."""
        is_blank = tf.strings.regex_full_match(sources, BLANK)
        source_ids = self._truncate(self._source.tokenize(sources)).to_tensor(PAD_ID)
        found = self._translate_ids(source_ids, is_blank)
        token_ids = tf.reshape(found["token_ids"], [-1, tf.shape(found["token_ids"])[2]])
        is_text = (token_ids != PAD_ID) & (token_ids != END_ID)
        texts = self._target.detokenize(tf.ragged.boolean_mask(token_ids, is_text))
        texts = tf.strings.regex_replace(texts, "^ +| +$", "")
        return {"texts": tf.reshape(texts, tf.shape(found["scores"])), "source_ids": source_ids} | found

    def _truncate(self, tokens: tf.RaggedTensor) -> tf.RaggedTensor:
        """Do what `Truncation.cut` does."""
        if self._truncation.policy == "none":
            return tokens
        end = self._truncation.tail + 1
        lengths = tokens.row_lengths()
        places = tf.ragged.range(lengths).flat_values
        is_read = (places < self._truncation.max_tokens - end) | (places >= tf.repeat(lengths, lengths) - end)
        return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(is_read))
