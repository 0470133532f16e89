"""From strings to hypotheses: batches of sources through a compiled search, back in the order they came in."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.config import Decoding
from seq2seq.decoding import Hypotheses, beam_search, greedy_search
from seq2seq.errors import Seq2SeqError
from seq2seq.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, pad

if TYPE_CHECKING:
    from seq2seq.model.seq2seq import Seq2Seq


class Hypothesis(NamedTuple):
    """One target that the search found.

    `score` is what hypotheses are ranked by, `log_prob` the sum of the tokens' log-probabilities; `token_ids` holds the
    end token. `attention_weights` is `(tokens, source_tokens)`, or None where the context has none or nobody asked.
    """

    text: str
    score: float
    log_prob: float
    token_ids: list[int]
    attention_weights: np.ndarray | None


class Generator:
    """The searches of one model, each compiled once for all shapes."""

    def __init__(self, model: "Seq2Seq") -> None:
        self._model = model
        self._search = functools.cache(self._compile)

    def generate(self, texts: list[str], options: Decoding, attention: bool = False) -> list[list[Hypothesis]]:
        """The `n_best` hypotheses of each text; see `Seq2Seq.generate`."""
        blank = Hypothesis("", 0.0, 0.0, [END_ID], None)
        results = [[blank] for _ in texts]
        kept = [index for index, text in enumerate(texts) if text.strip()]
        source_ids = self._model.require_tokenizer().encode_source([texts[index] for index in kept])
        search = self._search(
            options.beam_size, options.length_penalty, options.length_penalty_alpha, options.n_best, attention
        )
        for batch in _batches(source_ids, options.batch_tokens):
            sources = [source_ids[place] for place in batch]
            limits = [_longest_target(len(source), options) for source in sources]
            found = search(tf.constant(pad(sources)), tf.constant(limits, tf.int32))
            for place, hypotheses in zip(batch, self._unpack(found, [len(source) for source in sources]), strict=True):
                results[kept[place]] = hypotheses
        return results

    def _unpack(self, found: Hypotheses, source_lengths: list[int]) -> Iterator[list[Hypothesis]]:
        token_ids, scores, lengths, log_probs = (
            field.numpy() for field in (found.token_ids, found.scores, found.lengths, found.log_probs)
        )
        weights = None if found.attention_weights is None else found.attention_weights.numpy()
        for row, source_length in enumerate(source_lengths):
            exist = [place for place in range(lengths.shape[1]) if lengths[row, place] > 0]
            if not exist:
                raise Seq2SeqError(
                    "The search must find a hypothesis, but finds none: the model's scores are not numbers. "
                    "Load another checkpoint, or train again with a lower training.learning_rate."
                )
            ids = [token_ids[row, place, : lengths[row, place]].tolist() for place in exist]
            texts = self._model.require_tokenizer().decode_target(ids)
            yield [
                Hypothesis(
                    text,
                    float(scores[row, place]),
                    float(log_probs[row, place]),
                    tokens,
                    None if weights is None else weights[row, place, : len(tokens), :source_length],
                )
                for place, tokens, text in zip(exist, ids, texts, strict=True)
            ]

    def _compile(self, beam_size: int, penalty: str, alpha: float, n_best: int, attention: bool) -> Any:
        model = self._model

        def search(source_ids: Any, max_steps: Any) -> Hypotheses:
            memory, mask = model.encode(source_ids, training=False)
            prepared = model.decoder.context.prepare(memory, mask)

            def step(token_ids: Any, state: Any) -> Any:
                return tuple(model.decoder.step(token_ids, state, prepared))

            arguments = {
                "batch_size": tf.shape(source_ids)[0],
                "max_steps": max_steps,
                "start_id": START_ID,
                "end_id": END_ID,
                "pad_id": PAD_ID,
                "banned_ids": (UNKNOWN_ID,),
                "return_attention": attention and model.decoder.context.reads_every_step,
            }
            state = model.decoder.start(prepared)
            if beam_size == 1:
                return greedy_search(step, state, **arguments)
            return beam_search(
                step,
                state,
                beam_size=beam_size,
                length_penalty=alpha,
                length_penalty_kind=penalty,
                n_best=n_best,
                **arguments,
            )

        signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
        return tf.function(search, input_signature=signature, autograph=False)


def _longest_target(source_length: int, options: Decoding) -> int:
    limit = int(options.max_length_ratio * source_length) + options.max_length_extra
    # A small ratio of a short source may leave no token at all, and a target has one: its end.
    return max(1, min(limit, options.max_length))


def _batches(source_ids: list[list[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Places of sources of similar length, longest first, at most `batch_tokens` a batch with its padding."""
    order = sorted(range(len(source_ids)), key=lambda place: -len(source_ids[place]))
    batch: list[int] = []
    for place in order:
        if batch and len(source_ids[batch[0]]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
