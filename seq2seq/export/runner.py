"""Translates with a model exported to ONNX or LiteRT; needs sentencepiece, NumPy and onnxruntime or ai-edge-litert.

A copy of this file lies in every export, as `translate.py`: `python translate.py < sources > translations`.

The search is that of `seq2seq.decoding.beam`, in NumPy: the same hypotheses, but where other kernels round otherwise.
"""

import argparse
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import sentencepiece

VERSION = 1
"""The latest version of the files that this runner knows."""

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3
NEVER_WRITTEN = (PAD_ID, UNKNOWN_ID, START_ID)

LEAVING_SHARE = 8
"""Sentences leave the loop when more than one in so many are done."""

LEAST_COVERAGE = 1e-6
USUAL_ROWS = 8

SETTINGS = (
    "beam_size",
    "n_best",
    "length_penalty",
    "length_penalty_alpha",
    "coverage_penalty",
    "coverage_penalty_beta",
    "max_length_ratio",
    "max_length_extra",
    "max_length",
    "min_length_ratio",
    "min_length",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "beam_groups",
    "diversity",
    "batch_tokens",
)
"""What of the search can be changed."""


class Hypothesis(NamedTuple):
    """One translation.

    Attributes:
        text: The target.
        score: What hypotheses are ranked by.
        log_prob: The sum of `token_log_probs`.
        token_ids: The tokens, with the end where there is one.
        token_log_probs: The log-probability of each token.
        attention_weights: `(tokens, memory_steps)`, the source's tokens unless the model joins some; None where
            there is no attention or nobody asked.
    """

    text: str
    score: float
    log_prob: float
    token_ids: list[int]
    token_log_probs: list[float]
    attention_weights: np.ndarray | None = None


class Translator:
    """A model exported to ONNX or LiteRT.

    Args:
        folder: What `seq2seq export --format onnx` wrote, or `--format litert`.
        threads: Threads that an operation may have; 0: one a core.

    Raises:
        ValueError: The export is of another format or a later version.
    """

    def __init__(self, folder: str | pathlib.Path, threads: int = 0) -> None:
        folder = pathlib.Path(folder)
        description = json.loads((folder / "export.json").read_text("utf-8"))
        if description["format"] not in SESSIONS or description["version"] > VERSION:
            raise ValueError(
                f"{folder}: must be an export to onnx or litert of version {VERSION} or less, but is one to "
                f"{description['format']} of version {description['version']} instead. Run the translate.py beside it."
            )
        session, ending = SESSIONS[description["format"]]
        self._source_steps: int | None = description.get("source_steps")
        self._count: int | None = description.get("count")
        self.decoding: dict[str, Any] = {name: description["decoding"][name] for name in SETTINGS}
        self._context, self._states = description["context"], description["states"]
        self.has_attention = description["attention"]
        self._reduction, self._truncation = description["reduction"], description["truncation"]
        self._encoder, self._decoder = (
            session(folder / f"{name}.{ending}", threads) for name in ("encoder", "decoder")
        )
        models = [folder / name for name in ("joint.model", "source.model", "target.model")]
        processors = [sentencepiece.SentencePieceProcessor(str(model)) for model in models if model.exists()]
        self._source, self._target = processors[0], processors[-1]

    def translate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """The best target of each source, in the same order; a blank source gives a blank one."""
        return [found[0].text for found in self.generate(texts, **options)]

    def generate(self, texts: Sequence[str], attention: bool = False, **options: Any) -> list[list[Hypothesis]]:
        """The `n_best` hypotheses of each source, best first.

        Args:
            texts: Sources.
            attention: Whether each hypothesis tells what its tokens attended to.
            **options: Settings of the search that differ from those of the export, some of `SETTINGS`.

        Raises:
            ValueError: An unknown option, more hypotheses than the beam has, or what LiteRT has no room for.
        """
        settings = self._changed(options)
        results = [[Hypothesis("", 0.0, 0.0, [END_ID], [0.0])] for _ in texts]
        kept = [place for place, text in enumerate(texts) if text.strip()]
        source_ids = {place: self._cut(self._source.encode(texts[place], add_eos=True)) for place in kept}
        batch_tokens = settings["batch_tokens"] * USUAL_ROWS // max(USUAL_ROWS, settings["beam_size"])
        for place, ids in source_ids.items():
            if self._source_steps is not None and len(ids) > self._source_steps:
                raise ValueError(
                    f"texts[{place}] must have at most {self._source_steps} tokens, for which the export was made, but "
                    f"has {len(ids)} instead. Cut it, or export with more --source-steps."
                )
        batches = _batches(source_ids, batch_tokens) if self._source_steps is None else ([place] for place in kept)
        for places in batches:
            batch = [source_ids[place] for place in places]
            for place, found in zip(places, self._search(batch, settings, attention), strict=True):
                results[place] = found
        return results

    def _cut(self, ids: list[int]) -> list[int]:
        policy, most = self._truncation
        if policy == "none" or len(ids) <= most:
            return ids
        tail = (most - 1) // 2 if policy == "head_tail" else 0
        return ids[: most - 1 - tail] + ids[len(ids) - 1 - tail :]

    def _changed(self, options: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(options.keys() - self.decoding.keys())
        if unknown:
            raise ValueError(f"options must be some of {', '.join(SETTINGS)}, but are {', '.join(unknown)} instead.")
        settings = self.decoding | options
        if not 1 <= settings["n_best"] <= settings["beam_size"]:
            raise ValueError(
                f"n_best must be from 1 to beam_size ({settings['beam_size']}), but is {settings['n_best']} instead."
            )
        if self._source_steps is not None and settings["beam_size"] != self.decoding["beam_size"]:
            raise ValueError(
                f"beam_size must be {self.decoding['beam_size']}, for which the export was made, but is "
                f"{settings['beam_size']} instead."
            )
        if settings["beam_size"] % settings["beam_groups"]:
            raise ValueError(
                f"beam_groups must be a divisor of beam_size ({settings['beam_size']}), but is "
                f"{settings['beam_groups']} instead."
            )
        if self._source_steps is not None and _has_rules(settings) and (self._count or 0) < largest_count(settings):
            raise ValueError(
                "no_repeat_ngram_size must be 0 and repetition_penalty 1 for an export to litert that was made without "
                "them, or for shorter translations, but one is not. Export it with these settings."
            )
        if settings["coverage_penalty"] != "none" and not self.has_attention:
            raise ValueError("coverage_penalty must be none for a model without attention. Leave it out.")
        return settings

    def _search(self, batch: list[list[int]], settings: dict[str, Any], attention: bool) -> list[list[Hypothesis]]:
        lengths = np.array([len(ids) for ids in batch])
        source_ids = np.zeros((len(batch), lengths.max()), np.int32)
        for row, ids in zip(source_ids, batch, strict=True):
            row[: len(ids)] = ids
        names = [*self._context, *self._states]
        encoded = dict(zip(names, self._encoder.run(names, {"source_ids": source_ids}), strict=True))
        # A step of the memory may stand for several tokens.
        memory_steps = -(-lengths // self._reduction)
        search = _Search(settings, lengths, memory_steps, attention and self.has_attention)
        states = {name: np.repeat(encoded[name], settings["beam_size"], axis=0) for name in self._states}
        context = {name: encoded[name] for name in self._context}
        next_states = [f"next_{name}" for name in self._states]
        outputs = ["best_ids", "best_log_probs", *next_states, *(["attention_weights"] * search.needs_attention)]
        while len(search.sentences):
            context_inputs = {"token_ids": search.last_ids.reshape(-1), "count": np.array(search.count, np.int32)}
            best_ids, log_probs, *rest = self._decoder.run(outputs, context_inputs | states | context)
            rows, stay = search.advance(best_ids, log_probs, rest[-1] if search.needs_attention else None)
            states = {name: values[rows] for name, values in zip(self._states, rest, strict=False)}
            if stay is not None:
                context = {name: values[stay] for name, values in context.items()}
        return [
            [self._hypothesis(found, steps) for found in hypotheses]
            for hypotheses, steps in zip(search.found, memory_steps, strict=True)
        ]

    def _hypothesis(self, found: "_Found", memory_steps: int) -> Hypothesis:
        ids = found.token_ids.tolist()
        text = self._target.decode([i for i in ids if i != END_ID]).strip(" ")
        weights = None if found.attention is None else found.attention[:, :memory_steps]
        return Hypothesis(text, found.score, float(found.log_probs.sum()), ids, found.log_probs.tolist(), weights)


class _Found(NamedTuple):
    score: float
    token_ids: np.ndarray
    log_probs: np.ndarray
    attention: np.ndarray | None


_OF_SENTENCES = (
    *("sentences", "last_ids", "_sums", "_lengths", "_is_finished", "_is_valid", "_coverage"),
    *("_limits", "_least", "_token_ids", "_log_probs", "_weights"),
)


class _Search:
    """Beam search over a batch; what is here has rows for the sentences that are not done."""

    def __init__(
        self, settings: dict[str, Any], source_lengths: np.ndarray, memory_steps: np.ndarray, attention: bool
    ) -> None:
        self._settings, self._attention = settings, attention
        batch, beams, steps = len(source_lengths), settings["beam_size"], memory_steps.max()
        limits = (settings["max_length_ratio"] * source_lengths).astype(int) + settings["max_length_extra"]
        self._limits = np.clip(limits, 1, settings["max_length"])
        self._least = np.maximum((settings["min_length_ratio"] * source_lengths).astype(int), settings["min_length"])
        self.has_minimum = bool(self._least.max() > 1)
        self._has_coverage = settings["coverage_penalty"] != "none"
        self.needs_attention = attention or self._has_coverage
        self.found: list[list[_Found]] = [[] for _ in range(batch)]
        self.sentences = np.arange(batch)
        self.last_ids = np.full((batch, beams), START_ID, np.int32)
        self._sums = np.full((batch, beams), -np.inf, np.float32)
        self._sums[:, :: beams // settings["beam_groups"]] = 0
        self._lengths = np.zeros((batch, beams), int)
        self._is_finished = np.zeros((batch, beams), bool)
        self._is_valid = np.arange(steps) < memory_steps[:, None]
        self._coverage = np.zeros((batch, beams, steps if self._has_coverage else 0), np.float32)
        longest = self._limits.max()
        self._token_ids = np.zeros((batch, beams, longest), np.int32)
        self._log_probs = np.zeros((batch, beams, longest), np.float32)
        self._weights = np.zeros((batch, beams, longest if attention else 0, steps), np.float32)
        self._number_of_steps = 0
        self._is_greedy = beams == 1 and not self._has_coverage

    @property
    def count(self) -> int:
        """How many tokens of each row the next step has to know, so that enough of them may be written."""
        has_rules = _has_rules(self._settings)
        return _least_count(self._settings) + self.has_minimum + has_rules * self._number_of_steps

    def advance(
        self, best_ids: np.ndarray, log_probs: np.ndarray, attention: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Take a step: fill all places from the best tokens of each row, `(rows, count)` in falling order.

        Returns:
            Which rows go on, and which sentences, None where all do.
        """
        batch, beams = self.last_ids.shape
        at, self._number_of_steps = self._number_of_steps, self._number_of_steps + 1
        best_ids, log_probs = (values.reshape(batch, beams, -1) for values in (best_ids, log_probs))
        count = best_ids.shape[2]
        gains = self._gains(best_ids, log_probs, self._token_ids[:, :, :at])
        # A finished place has one continuation, itself, which comes before all others.
        itself = np.where(np.arange(count) == 0, np.float32(np.inf), np.float32(-np.inf))
        sums = np.where(self._is_finished[..., None], itself, self._sums[..., None] + gains).reshape(batch, -1)
        chosen = self._choice(sums, best_ids.reshape(batch, -1))
        sums = np.take_along_axis(sums, chosen, axis=1)
        places = chosen // count
        is_kept = sums == np.inf
        is_open = ~is_kept & (sums > -np.inf)

        def before(values: np.ndarray) -> np.ndarray:
            return values[np.arange(batch)[:, None], places]

        def of_chosen(values: np.ndarray) -> np.ndarray:
            return np.take_along_axis(values.reshape(batch, -1), chosen, axis=1)

        self.last_ids = np.where(is_open, of_chosen(best_ids), PAD_ID).astype(np.int32)
        self._token_ids, self._log_probs = before(self._token_ids), before(self._log_probs)
        self._token_ids[:, :, at] = self.last_ids
        self._log_probs[:, :, at] = np.where(is_open, of_chosen(log_probs), 0)
        if attention is not None:
            steps = self._is_valid.shape[1]
            read = before(attention.reshape(batch, beams, -1)[..., :steps]) * is_open[..., None]
            if self._has_coverage:
                self._coverage = before(self._coverage) + read
            if self._attention:
                self._weights = before(self._weights)
                self._weights[:, :, at] = read
        if self._is_greedy:
            # What it compares are penalised probabilities, what it gives are the model's own.
            sums = before(self._sums) + self._log_probs[:, :, at]
        self._sums = np.where(is_kept, before(self._sums), sums)
        self._lengths = np.where(is_open, self._number_of_steps, before(self._lengths))
        is_at_end = (self.last_ids == END_ID) | (self._number_of_steps >= self._limits)[:, None]
        self._is_finished = (is_kept & before(self._is_finished)) | (is_open & is_at_end)
        return self._leave(places + beams * np.arange(batch)[:, None])

    def _gains(self, best_ids: np.ndarray, log_probs: np.ndarray, history: np.ndarray) -> np.ndarray:
        """The log-probabilities by which tokens are chosen, `(batch, beams, count)`, after those of the history."""
        settings = self._settings
        gains, lowest = log_probs, np.float32(-np.inf)
        if settings["repetition_penalty"] > 1:
            is_written = _is_in(best_ids, history)
            gains = np.where(is_written, gains * np.float32(settings["repetition_penalty"]), gains)
        gains = np.where(np.isin(best_ids, NEVER_WRITTEN), lowest, gains)
        if self.has_minimum:
            is_too_short = (self._number_of_steps < self._least)[:, None, None]
            gains = np.where(is_too_short & (best_ids == END_ID), lowest, gains)
        size = settings["no_repeat_ngram_size"]
        if size and history.shape[2] >= size:
            windows = np.lib.stride_tricks.sliding_window_view(history, size, axis=2)
            last = history[:, :, None, history.shape[2] - size + 1 :]
            followers = np.where((windows[..., :-1] == last).all(axis=-1), windows[..., -1], PAD_ID)
            gains = np.where(_is_in(best_ids, followers), lowest, gains)
        # Where a rule forbids every token, the hypothesis is over.
        is_stuck = (gains == lowest).all(axis=-1, keepdims=True)
        return np.where(is_stuck & (best_ids == END_ID), log_probs, gains)

    def _choice(self, sums: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
        """Which continuations fill the places, `(batch, beams)`, out of `(batch, beams * count)`, group by group."""
        (batch, total), groups = sums.shape, self._settings["beam_groups"]
        size, width = self.last_ids.shape[1] // groups, total // groups
        chosen = np.zeros((batch, 0), int)
        for start in range(0, total, width):
            priorities = sums[:, start : start + width]
            if start:
                is_taken = np.isfinite(np.take_along_axis(sums, chosen, axis=1))
                taken = np.where(is_taken, np.take_along_axis(token_ids, chosen, axis=1), -1)
                equal = token_ids[:, start : start + width, None] == taken[:, None]
                priorities = priorities - np.float32(self._settings["diversity"]) * equal.sum(axis=-1, dtype=np.float32)
            best = np.argsort(-priorities, axis=1, kind="stable")[:, :size]
            chosen = np.concatenate([chosen, best + start], axis=1)
        return chosen

    def _leave(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Let sentences go whose result cannot change any more."""
        scores = self._finished_scores()
        to_beat = -np.sort(-scores, axis=1)[:, self._settings["n_best"] - 1]
        reachable = self._bounds().max(axis=1)
        is_done = (to_beat >= reachable) | (self._number_of_steps >= self._limits)
        # What is done is told at once, and then may stay a while.
        is_new = is_done & np.array([not self.found[sentence] for sentence in self.sentences])
        for row in np.flatnonzero(is_new).tolist():
            self.found[self.sentences[row]] = self._best(row, scores[row])
        done = int(is_done.sum())
        if done < len(is_done) and done <= len(is_done) // LEAVING_SHARE:
            return rows.reshape(-1), None
        stay = np.flatnonzero(~is_done)
        for name in _OF_SENTENCES:
            setattr(self, name, getattr(self, name)[stay])
        return rows[stay].reshape(-1), stay

    def _best(self, row: int, scores: np.ndarray) -> list[_Found]:
        order = np.argsort(-scores, kind="stable")[: self._settings["n_best"]]
        places = [place for place in order if scores[place] > -np.inf]
        if not places:
            raise ValueError("The search must find a hypothesis, but finds none: the model's scores are not numbers.")
        lengths = self._lengths[row]
        return [
            _Found(
                float(scores[place]),
                self._token_ids[row, place, : lengths[place]].copy(),
                self._log_probs[row, place, : lengths[place]].copy(),
                self._weights[row, place, : lengths[place]].copy() if self._attention else None,
            )
            for place in places
        ]

    def _finished_scores(self) -> np.ndarray:
        settings = self._settings
        scores = self._with_length_penalty(self._sums, self._lengths)
        if self._has_coverage:
            kind = wu_coverage if settings["coverage_penalty"] == "wu" else summary_coverage
            penalty = kind(self._coverage, self._is_valid[:, None])
            scores = scores + np.float32(settings["coverage_penalty_beta"]) * penalty
        return np.where(self._is_finished & ~np.isnan(scores), scores, -np.inf)

    def _bounds(self) -> np.ndarray:
        """The best that open hypotheses can reach."""
        sums = np.where(self._is_finished, np.float32(-np.inf), self._sums)
        bounds = self._with_length_penalty(sums, self._limits[:, None])
        if self._settings["coverage_penalty"] != "summary":
            return bounds
        penalty = summary_coverage(self._coverage, self._is_valid[:, None])
        return bounds + np.float32(self._settings["coverage_penalty_beta"]) * penalty

    def _with_length_penalty(self, sums: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        alpha, kind = np.float32(self._settings["length_penalty_alpha"]), self._settings["length_penalty"]
        # Greedy search compares nothing, and gives the sum itself.
        if kind == "none" or self._is_greedy:
            return sums
        at_least_one = np.maximum(lengths, 1).astype(np.float32)
        if kind == "reward":
            return sums + alpha * lengths.astype(np.float32)
        return sums / (at_least_one if kind == "average" else (5 + at_least_one) / 6) ** alpha


def _is_in(best_ids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the tokens of a row, `(batch, beams, count)`, are among its others, `(batch, beams, n)`."""
    return (best_ids[..., None] == others[:, :, None]).any(axis=-1)


def _has_rules(settings: dict[str, Any]) -> bool:
    """Whether what a hypothesis holds decides what it may go on with."""
    return bool(settings["no_repeat_ngram_size"] or settings["repetition_penalty"] > 1)


def _least_count(settings: dict[str, Any]) -> int:
    return int(settings["beam_size"]) + len(NEVER_WRITTEN)


def largest_count(settings: dict[str, Any]) -> int:
    """How many tokens of each row any step may have to know; one may be an end that is not allowed yet."""
    return _least_count(settings) + 1 + _has_rules(settings) * int(settings["max_length"])


def wu_coverage(coverage: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
    """The sum over source tokens of log(min(coverage, 1)): what was left out costs."""
    return np.where(is_valid, np.log(np.clip(coverage, np.float32(LEAST_COVERAGE), 1)), 0).sum(axis=-1)


def summary_coverage(coverage: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
    """Minus the sum over source tokens of what coverage is beyond 1: what was repeated costs."""
    return -np.where(is_valid, np.maximum(coverage - 1, 0), 0).sum(axis=-1)


def onnx_session(path: pathlib.Path, threads: int) -> Any:
    """A graph that has `run(names, feeds)`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class LiteSession:
    """A graph of LiteRT, which has one shape for each of its inputs."""

    def __init__(self, path: pathlib.Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads or None)
        self._graph = self._interpreter.get_signature_runner()
        self._shapes = {name: details["shape"] for name, details in self._graph.get_input_details().items()}

    def run(self, names: Sequence[str], context_inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs by name; inputs are filled up with zeros at the ends, and those that the graph lacks left out."""
        inputs = {}
        for name, shape in self._shapes.items():
            missing = [(0, most - count) for most, count in zip(shape, context_inputs[name].shape, strict=True)]
            inputs[name] = np.pad(context_inputs[name], missing)
        outputs = self._graph(**inputs)
        return [outputs[name] for name in names]


SESSIONS: dict[str, tuple[Any, str]] = {"onnx": (onnx_session, "onnx"), "litert": (LiteSession, "tflite")}
"""What runs the graphs of a format, and the ending of their files."""


def _batches(source_ids: dict[int, list[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Places of sources of similar length, longest first, at most `batch_tokens` a batch with its padding."""
    batch: list[int] = []
    for place in sorted(source_ids, key=lambda place: -len(source_ids[place])):
        if batch and len(source_ids[batch[0]]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def main(arguments: Sequence[str] | None = None) -> None:
    """Translate standard input, line by line."""
    parser = argparse.ArgumentParser(description="Translate lines of standard input, in order.")
    parser.add_argument("--folder", default=pathlib.Path(__file__).parent, help="the export; left out: where this is")
    parser.add_argument("--beam-size", type=int, help="hypotheses kept at every step; 1: greedy")
    parser.add_argument("--n-best", type=int, help="translations of each line, best first")
    parser.add_argument("--window", type=int, default=1000, help="lines read and translated together, at most")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    translator, window = Translator(given.pop("folder")), given.pop("window")
    while texts := [line.rstrip("\n") for line in itertools.islice(sys.stdin, window)]:
        count = given.get("n_best", translator.decoding["n_best"])
        for found in translator.generate(texts, **given):
            written = [" ".join(hypothesis.text.splitlines()) for hypothesis in found]
            sys.stdout.writelines(f"{text}\n" for text in written + [""] * (count - len(written)))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    main()
