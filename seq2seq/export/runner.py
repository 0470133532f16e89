"""Translate with a model exported to ONNX or LiteRT; needs sentencepiece, NumPy and onnxruntime or ai-edge-litert.

Every export has a copy of this file, `translate.py`: `python translate.py < sources > translations`. The search is that
of `seq2seq.decoding.beam`, in NumPy: the same hypotheses, but where other kernels round otherwise.
"""

import argparse
import itertools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import sentencepiece

VERSION = 1
"""Latest version of the exported files that this runner reads."""

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3
FORBIDDEN_IDS = (PAD_ID, UNKNOWN_ID, START_ID)

COMPACTION_SHARE = 8
"""Finished sentences are removed from the batch once they are more than one in this many."""

MIN_COVERAGE = 1e-6
USUAL_ROWS = 8

SETTINGS = (
    *("beam_size", "n_best", "beam_groups", "diversity", "batch_tokens"),
    *("length_penalty", "length_penalty_alpha", "coverage_penalty", "coverage_penalty_beta"),
    *("max_length_ratio", "max_length_extra", "max_length", "min_length_ratio", "min_length"),
    *("no_repeat_ngram_size", "repetition_penalty"),
)
"""Settings of the search that can be changed."""

PER_SENTENCE = (
    *("sentences", "last_ids", "sums", "lengths", "is_finished", "is_valid", "coverage"),
    *("limits", "minimum", "token_ids", "log_probs", "weights"),
)
"""Attributes of `Search` with one row per sentence."""


class Hypothesis(NamedTuple):
    """One translation; `score` ranks it, `log_prob` is the sum of `token_log_probs`."""

    text: str
    score: float
    log_prob: float
    token_ids: list[int]  # with the end token where there is one
    token_log_probs: list[float]
    attention_weights: np.ndarray | None = None  # (tokens, memory_steps), usually one step per source token


class Translator:
    """A model in a folder that `seq2seq export` wrote; `threads` per operation, 0 for one per core."""

    def __init__(self, folder: str | pathlib.Path, threads: int = 0) -> None:
        folder = pathlib.Path(folder)
        description = json.loads((folder / "export.json").read_text("utf-8"))
        if description["format"] not in SESSIONS or description["version"] > VERSION:
            raise ValueError(
                f"{folder} must be an export to onnx or litert of version {VERSION} or less, got one to "
                f"{description['format']} of version {description['version']}. Run the translate.py of that folder."
            )
        self.decoding: dict[str, Any] = {name: description["decoding"][name] for name in SETTINGS}
        self.has_attention: bool = description["attention"]
        self._description = description
        # LiteRT has one shape for all sentences.
        self._source_steps: int | None = description.get("source_steps")
        session, ending = SESSIONS[description["format"]]
        self._encoder, self._decoder = (
            session(folder / f"{name}.{ending}", threads) for name in ("encoder", "decoder")
        )
        models = [folder / name for name in ("joint.model", "source.model", "target.model")]
        processors = [sentencepiece.SentencePieceProcessor(str(model)) for model in models if model.exists()]
        self._source, self._target = processors[0], processors[-1]

    def translate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """Return the best translation of each text, in the same order; that of a blank text is blank."""
        return [found[0].text for found in self.generate(texts, **options)]

    def generate(self, texts: Sequence[str], attention: bool = False, **options: Any) -> list[list[Hypothesis]]:
        """Return the `n_best` hypotheses of each text, best first; `options` are some of `SETTINGS`."""
        settings = self._changed(options)
        results = [[Hypothesis("", 0.0, 0.0, [END_ID], [0.0])] for _ in texts]
        source_ids = {
            place: self._truncate(self._source.encode(text, add_eos=True))
            for place, text in enumerate(texts)
            if text.strip()
        }
        for place, ids in source_ids.items():
            if self._source_steps is not None and len(ids) > self._source_steps:
                raise ValueError(
                    f"texts[{place}] must have at most {self._source_steps} tokens, as exported, got {len(ids)}. Cut "
                    "it, or export with more --source-steps."
                )
        batches: Iterable[list[int]] = [[place] for place in source_ids]
        if self._source_steps is None:
            batch_tokens = settings["batch_tokens"] * USUAL_ROWS // max(USUAL_ROWS, settings["beam_size"])
            batches = _batches(source_ids, batch_tokens)
        for places in batches:
            batch = [source_ids[place] for place in places]
            for place, found in zip(places, self._search(batch, settings, attention), strict=True):
                results[place] = found
        return results

    def _truncate(self, ids: list[int]) -> list[int]:
        policy, most = self._description["truncation"]
        if policy == "none" or len(ids) <= most:
            return ids
        tail = (most - 1) // 2 if policy == "head_tail" else 0
        return ids[: most - 1 - tail] + ids[len(ids) - 1 - tail :]

    def _changed(self, options: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(options.keys() - self.decoding.keys())
        if unknown:
            raise ValueError(f"options must be some of {', '.join(SETTINGS)}, got {', '.join(unknown)}.")
        settings = self.decoding | options
        size, fixed = settings["beam_size"], self._source_steps is not None
        has_too_few = fixed and _has_history(settings) and self._description["count"] < max_count(settings)
        for name, requirement, is_good in (
            ("n_best", f"from 1 to beam_size ({size})", 1 <= settings["n_best"] <= size),
            (
                "beam_size",
                f"{self.decoding['beam_size']}, as exported",
                size == self.decoding["beam_size"] or not fixed,
            ),
            ("beam_groups", f"a divisor of beam_size ({size})", size % settings["beam_groups"] == 0),
            ("max_length", "less, or no_repeat_ngram_size 0 and repetition_penalty 1", not has_too_few),
            (
                "coverage_penalty",
                "none without attention",
                self.has_attention or settings["coverage_penalty"] == "none",
            ),
        ):
            if not is_good:
                raise ValueError(f"{name} must be {requirement}, got {settings[name]!r}.")
        return settings

    def _search(self, batch: list[list[int]], settings: dict[str, Any], attention: bool) -> list[list[Hypothesis]]:
        context_names, state_names = self._description["context"], self._description["states"]
        lengths = np.array([len(ids) for ids in batch])
        source_ids = np.zeros((len(batch), lengths.max()), np.int32)
        for row, ids in zip(source_ids, batch, strict=True):
            row[: len(ids)] = ids
        names = [*context_names, *state_names]
        encoded = dict(zip(names, self._encoder.run(names, {"source_ids": source_ids}), strict=True))
        # A step of the memory may be several tokens.
        memory_steps = -(-lengths // self._description["reduction"])
        search = Search(settings, lengths, memory_steps, attention and self.has_attention)
        context = {name: encoded[name] for name in context_names}
        states = {name: np.repeat(encoded[name], settings["beam_size"], axis=0) for name in state_names}
        next_states = [f"next_{name}" for name in state_names]
        outputs = ["best_ids", "best_log_probs", *next_states, *(["attention_weights"] * search.needs_attention)]
        while len(search.sentences):
            inputs = {"token_ids": search.last_ids.reshape(-1), "count": np.array(search.count, np.int32)}
            best_ids, log_probs, *rest = self._decoder.run(outputs, inputs | states | context)
            rows, remaining = search.advance(best_ids, log_probs, rest[-1] if search.needs_attention else None)
            states = {name: values[rows] for name, values in zip(state_names, rest, strict=False)}
            if remaining is not None:
                context = {name: values[remaining] for name, values in context.items()}
        return [[self._decoded(one) for one in hypotheses] for hypotheses in search.found]

    def _decoded(self, hypothesis: Hypothesis) -> Hypothesis:
        text = self._target.decode([token for token in hypothesis.token_ids if token != END_ID])
        return hypothesis._replace(text=text.strip(" "))


class Search:
    """Beam search over a batch; arrays have rows for the sentences that are not removed."""

    def __init__(
        self, settings: dict[str, Any], source_lengths: np.ndarray, memory_steps: np.ndarray, attention: bool
    ) -> None:
        self.settings, self.attention, self.memory_steps = settings, attention, memory_steps
        batch, beams, steps = len(source_lengths), settings["beam_size"], memory_steps.max()
        limits = (settings["max_length_ratio"] * source_lengths).astype(int) + settings["max_length_extra"]
        self.limits = np.clip(limits, 1, settings["max_length"])
        self.minimum = np.maximum((settings["min_length_ratio"] * source_lengths).astype(int), settings["min_length"])
        self.has_minimum = bool(self.minimum.max() > 1)
        self.has_coverage = settings["coverage_penalty"] != "none"
        self.needs_attention = attention or self.has_coverage
        self.found: list[list[Hypothesis]] = [[] for _ in range(batch)]
        self.sentences = np.arange(batch)
        self.last_ids = np.full((batch, beams), START_ID, np.int32)
        self.sums = np.full((batch, beams), -np.inf, np.float32)
        self.sums[:, :: beams // settings["beam_groups"]] = 0
        self.lengths = np.zeros((batch, beams), int)
        self.is_finished = np.zeros((batch, beams), bool)
        self.is_valid = np.arange(steps) < memory_steps[:, None]
        self.coverage = np.zeros((batch, beams, steps if self.has_coverage else 0), np.float32)
        longest = self.limits.max()
        self.token_ids = np.zeros((batch, beams, longest), np.int32)
        self.log_probs = np.zeros((batch, beams, longest), np.float32)
        self.weights = np.zeros((batch, beams, longest if attention else 0, steps), np.float32)
        self.num_steps = 0
        self.is_greedy = beams == 1 and not self.has_coverage

    @property
    def count(self) -> int:
        """Number of best tokens per row that the next step needs, so that enough of them are allowed."""
        return _min_count(self.settings) + self.has_minimum + _has_history(self.settings) * self.num_steps

    def advance(
        self, best_ids: np.ndarray, log_probs: np.ndarray, attention: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Fill all beams from the best tokens of each row, `(rows, count)`, and return remaining rows and sentences.

        The sentences are None where all remain.
        """
        batch, beams = self.last_ids.shape
        at, self.num_steps = self.num_steps, self.num_steps + 1
        best_ids, log_probs = (values.reshape(batch, beams, -1) for values in (best_ids, log_probs))
        count = best_ids.shape[2]
        gains = self._gains(best_ids, log_probs, self.token_ids[:, :, :at])
        # A finished beam has one continuation, itself, which comes before all others.
        itself = np.where(np.arange(count) == 0, np.float32(np.inf), np.float32(-np.inf))
        sums = np.where(self.is_finished[..., None], itself, self.sums[..., None] + gains).reshape(batch, -1)
        chosen = self._choose(sums, best_ids.reshape(batch, -1))
        sums = np.take_along_axis(sums, chosen, axis=1)
        places = chosen // count
        is_frozen = sums == np.inf
        is_open = ~is_frozen & (sums > -np.inf)

        def continued(values: np.ndarray) -> np.ndarray:
            return values[np.arange(batch)[:, None], places]

        def taken(values: np.ndarray) -> np.ndarray:
            return np.take_along_axis(values.reshape(batch, -1), chosen, axis=1)

        self.last_ids = np.where(is_open, taken(best_ids), PAD_ID).astype(np.int32)
        self.token_ids, self.log_probs = continued(self.token_ids), continued(self.log_probs)
        self.token_ids[:, :, at] = self.last_ids
        self.log_probs[:, :, at] = np.where(is_open, taken(log_probs), 0)
        if attention is not None:
            steps = self.is_valid.shape[1]
            read = continued(attention.reshape(batch, beams, -1)[..., :steps]) * is_open[..., None]
            if self.has_coverage:
                self.coverage = continued(self.coverage) + read
            if self.attention:
                self.weights = continued(self.weights)
                self.weights[:, :, at] = read
        if self.is_greedy:
            # It compares penalized log-probabilities, but returns the model's own.
            sums = continued(self.sums) + self.log_probs[:, :, at]
        self.sums = np.where(is_frozen, continued(self.sums), sums)
        self.lengths = np.where(is_open, self.num_steps, continued(self.lengths))
        is_at_end = (self.last_ids == END_ID) | (self.num_steps >= self.limits)[:, None]
        self.is_finished = (is_frozen & continued(self.is_finished)) | (is_open & is_at_end)
        return self._remove_done(places + beams * np.arange(batch)[:, None])

    def _gains(self, best_ids: np.ndarray, log_probs: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Process log-probabilities, `(batch, beams, count)`, given the tokens so far."""
        settings = self.settings
        gains, lowest = log_probs, np.float32(-np.inf)
        if settings["repetition_penalty"] > 1:
            penalized = gains * np.float32(settings["repetition_penalty"])
            gains = np.where(_is_in(best_ids, history), penalized, gains)
        gains = np.where(np.isin(best_ids, FORBIDDEN_IDS), lowest, gains)
        if self.has_minimum:
            is_too_short = (self.num_steps < self.minimum)[:, None, None]
            gains = np.where(is_too_short & (best_ids == END_ID), lowest, gains)
        size = settings["no_repeat_ngram_size"]
        if size and history.shape[2] >= size:
            windows = np.lib.stride_tricks.sliding_window_view(history, size, axis=2)
            last = history[:, :, None, history.shape[2] - size + 1 :]
            followers = np.where((windows[..., :-1] == last).all(axis=-1), windows[..., -1], PAD_ID)
            gains = np.where(_is_in(best_ids, followers), lowest, gains)
        # A hypothesis without an allowed token ends.
        is_stuck = (gains == lowest).all(axis=-1, keepdims=True)
        return np.where(is_stuck & (best_ids == END_ID), log_probs, gains)

    def _choose(self, sums: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
        """Choose continuations for all beams, `(batch, beams)`, out of `(batch, beams * count)`, group by group."""
        (batch, total), groups = sums.shape, self.settings["beam_groups"]
        size, width = self.last_ids.shape[1] // groups, total // groups
        chosen = np.zeros((batch, 0), int)
        for start in range(0, total, width):
            priorities = sums[:, start : start + width]
            if start:
                is_taken = np.isfinite(np.take_along_axis(sums, chosen, axis=1))
                taken = np.where(is_taken, np.take_along_axis(token_ids, chosen, axis=1), -1)
                equal = token_ids[:, start : start + width, None] == taken[:, None]
                priorities = priorities - np.float32(self.settings["diversity"]) * equal.sum(axis=-1, dtype=np.float32)
            best = np.argsort(-priorities, axis=1, kind="stable")[:, :size]
            chosen = np.concatenate([chosen, best + start], axis=1)
        return chosen

    def _remove_done(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        scores = self._finished_scores()
        to_beat = -np.sort(-scores, axis=1)[:, self.settings["n_best"] - 1]
        is_done = (to_beat >= self._bounds().max(axis=1)) | (self.num_steps >= self.limits)
        # A finished sentence has its result at once, and may be removed later.
        is_new = is_done & np.array([not self.found[sentence] for sentence in self.sentences])
        for row in np.flatnonzero(is_new).tolist():
            self.found[self.sentences[row]] = self._best(row, scores[row])
        done = int(is_done.sum())
        if done < len(is_done) and done <= len(is_done) // COMPACTION_SHARE:
            return rows.reshape(-1), None
        remaining = np.flatnonzero(~is_done)
        for name in PER_SENTENCE:
            setattr(self, name, getattr(self, name)[remaining])
        return rows[remaining].reshape(-1), remaining

    def _best(self, row: int, scores: np.ndarray) -> list[Hypothesis]:
        order = np.argsort(-scores, kind="stable")[: self.settings["n_best"]]
        hypotheses = []
        for place in order[scores[order] > -np.inf]:
            steps = slice(self.lengths[row, place])
            log_probs = self.log_probs[row, place, steps]
            ids, score = self.token_ids[row, place, steps].tolist(), float(scores[place])
            weights = None
            if self.attention:
                weights = self.weights[row, place, steps, : self.memory_steps[self.sentences[row]]].copy()
            hypotheses.append(Hypothesis("", score, float(log_probs.sum()), ids, log_probs.tolist(), weights))
        if not hypotheses:
            raise ValueError("The search finds no hypothesis: the model's scores are not numbers.")
        return hypotheses

    def _finished_scores(self) -> np.ndarray:
        scores = self._with_length_penalty(self.sums, self.lengths)
        if self.has_coverage:
            scores = scores + self._coverage_penalty(self.settings["coverage_penalty"])
        return np.where(self.is_finished & ~np.isnan(scores), scores, -np.inf)

    def _bounds(self) -> np.ndarray:
        """Compute the best scores that open hypotheses can reach."""
        sums = np.where(self.is_finished, np.float32(-np.inf), self.sums)
        bounds = self._with_length_penalty(sums, self.limits[:, None])
        return bounds + self._coverage_penalty("summary") if self.settings["coverage_penalty"] == "summary" else bounds

    def _with_length_penalty(self, sums: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        alpha, kind = np.float32(self.settings["length_penalty_alpha"]), self.settings["length_penalty"]
        # Greedy search compares nothing and returns the sum.
        if kind == "none" or self.is_greedy:
            return sums
        at_least_one = np.maximum(lengths, 1).astype(np.float32)
        if kind == "reward":
            return sums + alpha * lengths.astype(np.float32)
        return sums / (at_least_one if kind == "average" else (5 + at_least_one) / 6) ** alpha

    def _coverage_penalty(self, kind: str) -> np.ndarray:
        """Penalize omissions, `sum_s log(min(coverage_s, 1))`, or repetition, `-sum_s max(coverage_s - 1, 0)`."""
        if kind == "wu":
            penalties = np.log(np.clip(self.coverage, np.float32(MIN_COVERAGE), 1))
        else:
            penalties = -np.maximum(self.coverage - 1, 0)
        total = np.where(self.is_valid[:, None], penalties, 0).sum(axis=-1)
        return np.float32(self.settings["coverage_penalty_beta"]) * total


def _is_in(best_ids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Say which tokens of each row, `(batch, beams, count)`, are among `(batch, beams, n)` others."""
    return (best_ids[..., None] == others[:, :, None]).any(axis=-1)


def _has_history(settings: dict[str, Any]) -> bool:
    """Say whether the tokens of a hypothesis decide how it may continue."""
    return bool(settings["no_repeat_ngram_size"] or settings["repetition_penalty"] > 1)


def _min_count(settings: dict[str, Any]) -> int:
    return int(settings["beam_size"]) + len(FORBIDDEN_IDS)


def max_count(settings: dict[str, Any]) -> int:
    """Return the number of best tokens per row that any step may need; one may be an end that is too early."""
    return _min_count(settings) + 1 + _has_history(settings) * int(settings["max_length"])


def onnx_session(path: pathlib.Path, threads: int) -> Any:
    """Load a graph that has `run(names, inputs)`."""
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

    def run(self, names: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Compute outputs by name; inputs are padded with zeros, and inputs that the graph lacks are ignored."""
        padded = {}
        for name, shape in self._shapes.items():
            missing = [(0, most - count) for most, count in zip(shape, inputs[name].shape, strict=True)]
            padded[name] = np.pad(inputs[name], missing)
        outputs = self._graph(**padded)
        return [outputs[name] for name in names]


SESSIONS: dict[str, tuple[Any, str]] = {"onnx": (onnx_session, "onnx"), "litert": (LiteSession, "tflite")}
"""Loader of the graphs of each format, and the ending of their files."""


def _batches(source_ids: dict[int, list[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Yield keys of sources of similar length, longest first, at most `batch_tokens` per batch with padding."""
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
    parser.add_argument("--folder", default=pathlib.Path(__file__).parent, help="the export; left out: this folder")
    parser.add_argument("--beam-size", type=int, help="hypotheses kept at every step; 1: greedy")
    parser.add_argument("--n-best", type=int, help="translations of each line, best first")
    parser.add_argument("--window", type=int, default=1000, help="lines read and translated together, at most")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    translator, window = Translator(given.pop("folder")), given.pop("window")
    while texts := [line.rstrip("\n") for line in itertools.islice(sys.stdin, window)]:
        count = given.get("n_best", translator.decoding["n_best"])
        for found in translator.generate(texts, **given):
            lines = [" ".join(hypothesis.text.splitlines()) for hypothesis in found]
            sys.stdout.writelines(f"{line}\n" for line in lines + [""] * (count - len(lines)))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    main()
