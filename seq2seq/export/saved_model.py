"""A SavedModel: the whole translator, from strings or ids on, for a TensorFlow that has never heard of this package.

Its graphs run the processor's own code whatever machine they were made on: traced where there is a GPU, they would hold
cuDNN's kernels, and run nowhere else.
"""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import MissingDependencyError
from seq2seq.export.search_graph import SearchGraph, translate_in_batches
from seq2seq.export.steps import Steps
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.ids import END_ID, PAD_ID
from seq2seq.text.tokenizer import Tokenizer, Truncation

BLANK = r"[\s\p{Z}\x{1c}-\x{1f}\x{85}]*"
"""What Python takes for white space."""


def write_saved_model(
    model: Seq2Seq, options: DecodingConfig, folder: pathlib.Path, *, attention: bool = False, strings: bool = True
) -> None:
    """Write a SavedModel.

    Its signatures: `encode` and `step` of `Steps`; `translate_ids`, from `source_ids` `(batch, source_steps)`, each
    ended by an end token and padded with zeros, to `token_ids` `(batch, n_best, target_steps)`, `lengths`, `scores`,
    `log_probs` and `token_log_probs`, with `attention_weights` where they are asked for; and `translate`, the default,
    from `sources` `(batch,)` to `texts` `(batch, n_best)` and all of these, and the `source_ids` that attention is to.

    Args:
        model: The model.
        options: How it searches.
        folder: Where to.
        attention: Whether the translations come with their attention weights.
        strings: Whether `translate` is there; the graph then needs tensorflow-text wherever it is loaded.

    Raises:
        MissingDependencyError: There is no tensorflow-text.
    """
    twin = clone_with_implementation(model, "scan")
    steps = Steps(twin)
    translator = SearchGraph(twin, options, attention)
    specs = steps.step_specs
    signatures = {
        "translate_ids": tf.function(translator.translate_ids, [steps.encode_spec], autograph=False),
        "encode": tf.function(steps.encode, [steps.encode_spec], autograph=False),
        "step": tf.function(lambda **tensors: steps.step(**tensors), autograph=False).get_concrete_function(**specs),
    }
    saved = tf.Module()
    # The packed parts hold copies of theirs in the graph.
    saved.weights = [weight.value for weight in twin.weights]
    if strings:
        text = _Text(model.require_tokenizer(), model.truncation)
        saved.tokenizers = text.tokenizers
        signatures["translate"] = tf.function(
            lambda sources: text.translate(translator, sources),
            [tf.TensorSpec([None], tf.string, "sources")],
            autograph=False,
        )
    signatures["serving_default"] = signatures["translate" if strings else "translate_ids"]
    # The kernels' own gradients are of no use here, and read what only a graph in training keeps.
    no_gradients = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(saved, str(folder), signatures, no_gradients)


def translate_with_saved_model(folder: pathlib.Path, model: Seq2Seq, sources: Sequence[str]) -> list[tuple[str, float]]:
    """The best translation of each source and its score, by an export as it lies on the disk."""
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


class _Text:
    """What stands before and behind the ids: SentencePiece, as operations of a graph.

    Raises:
        MissingDependencyError: There is no tensorflow-text.
    """

    def __init__(self, tokenizer: Tokenizer, truncation: Truncation) -> None:
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

    def translate(self, translator: SearchGraph, sources: Any) -> dict[str, Any]:
        """Texts, and all that the translator says of them."""
        is_blank = tf.strings.regex_full_match(sources, BLANK)
        source_ids = self._cut(self._source.tokenize(sources)).to_tensor(PAD_ID)
        found = translator.translate_ids(source_ids, is_blank)
        token_ids = tf.reshape(found["token_ids"], [-1, tf.shape(found["token_ids"])[2]])
        is_text = (token_ids != PAD_ID) & (token_ids != END_ID)
        texts = self._target.detokenize(tf.ragged.boolean_mask(token_ids, is_text))
        texts = tf.strings.regex_replace(texts, "^ +| +$", "")
        return {"texts": tf.reshape(texts, tf.shape(found["scores"])), "source_ids": source_ids} | found

    def _cut(self, tokens: tf.RaggedTensor) -> tf.RaggedTensor:
        """What the model reads of sources; see `Truncation.cut`."""
        if self._truncation.policy == "none":
            return tokens
        end = self._truncation.tail + 1
        lengths = tokens.row_lengths()
        places = tf.ragged.range(lengths).flat_values
        is_kept = (places < self._truncation.max_tokens - end) | (places >= tf.repeat(lengths, lengths) - end)
        return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(is_kept))
