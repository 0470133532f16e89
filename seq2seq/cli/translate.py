"""`seq2seq translate`: lines in, lines out, in the same order."""

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.config.flags import Switch, with_search_flags
from seq2seq.errors import ConfigError
from seq2seq.serving.line_stream import WINDOW_LINES, Format, LineStream, on_one_line

if TYPE_CHECKING:
    from seq2seq.models.generation import Hypothesis
    from seq2seq.models.seq2seq import Seq2Seq
    from seq2seq.serving.line_stream import Answer


@with_search_flags
def translate(
    model: str,
    file: str = "-",
    /,
    *,
    output: str | None = None,
    format: Format = "text",  # noqa: A002 - the word of the flag
    input_format: Format | None = None,
    tokens: Switch = False,
    attention: Switch = False,
    ensemble: Annotated[tuple[str, ...], cyclopts.Parameter(negative=(), consume_multiple=True)] = (),
    window: int = WINDOW_LINES,
    max_line_characters: int | None = None,
    search: dict[str, Any],
) -> None:
    """Translate each line of a file, or of standard input, in order; every line of input has its answer.

    A blank line stays blank. The beginning of a line that is too long is translated. A line that is not UTF-8, holds
    NUL, is no JSON object with a source where those are read, or cannot be searched, gives an empty translation. All
    but blank lines are named on standard error with file and line, and at the end all are counted there, also
    translations that stopped at --max-length before they ended.

    Lines are written one by one, each whole, and as soon as input pauses.

    Args:
        model: the model.keras of a run.
        file: UTF-8 text, or gzip of it; "-" is standard input.
        output: file for the translations; left out: standard output.
        format: text, a line for each translation; jsonl, an object a line with the source, all keys of its own, its
            translations and their scores, the number of its tokens that were left out where it was cut, and the problem
            of a line that has one.
        input_format: text, a source a line; jsonl, an object a line with "source", and as it likes "prefix" (a string),
            "required" and "banned" (lists of strings), and keys of its own; left out: as --format.
        tokens: in jsonl, also the tokens of the source and of each translation, the log-probability of each, and the
            place of the source token, from 0, that each attended to most; for a model whose encoder joins source
            tokens the place is that in "source_windows", which are those that are read as one.
        attention: the same, and how much each attended to each source token, or window, a list for each.
        ensemble: other models whose log-probabilities are averaged with the model's at every step; they must share its
            target vocabulary.
        window: lines read and searched together, at most, from which batches of similar length are made.
        max_line_characters: of a longer line the beginning is translated; left out: 10,000.
    """
    if (tokens or attention) and format == "text":
        name = "--tokens" if tokens else "--attention"
        raise ConfigError(f"{name} must be left out where --format is text, but is given. Add --format jsonl.")
    stream = LineStream(file, output, format, input_format, window, max_line_characters)
    import_tensorflow()
    from seq2seq.serving.line_stream import answer_stream

    translator, first_model = _translator(model, ensemble)
    options = search
    count = translator.decoding.replaced(**options).n_best
    written = (
        functools.partial(_json_lines, first_model if tokens or attention else None, attention)
        if format == "jsonl"
        else functools.partial(_text_lines, count=count)
    )
    stream.answer(functools.partial(answer_stream, translator, attention=tokens or attention, **options), written)


def _translator(model: str, ensemble: Sequence[str]) -> tuple[Any, "Seq2Seq"]:
    """What translates, and the first model of it, whose source tokens an alignment speaks of."""
    from seq2seq.models.archive import load
    from seq2seq.models.seq2seq import Seq2Seq
    from seq2seq.threads import use_single_threaded_ops

    use_single_threaded_ops()
    models = [load(path, Seq2Seq) for path in (model, *ensemble)]
    if not ensemble:
        return models[0], models[0]
    from seq2seq.models.generation import Ensemble

    try:
        return Ensemble(models), models[0]
    except ValueError as error:
        raise ConfigError(f"--ensemble: {error}") from error


def _text_lines(answer: "Answer", count: int) -> list[str]:
    # A source has the same number of lines whatever the search found, so that line numbers say what belongs to what.
    texts = [on_one_line(hypothesis.text) for hypothesis in answer.hypotheses]
    return texts + [""] * (count - len(texts))


def _json_lines(model: "Seq2Seq | None", with_attention: bool, answer: "Answer") -> list[str]:
    record: dict[str, Any] = {"source": answer.request.source, **answer.request.record}
    if model is not None and answer.hypotheses:
        record["source_tokens"] = model.source_pieces(answer.request.source)
        windows = model.memory_tokens(answer.request.source)
        if len(windows) < len(record["source_tokens"]):
            record["source_windows"] = windows
    record["translations"] = [
        _json_translation(found, model is not None, with_attention) for found in answer.hypotheses
    ]
    if answer.hypotheses and answer.hypotheses[0].num_truncated_tokens:
        record["source_tokens_left_out"] = answer.hypotheses[0].num_truncated_tokens
    if answer.problem is not None:
        record["problem"] = answer.problem
    return [json.dumps(record, ensure_ascii=False)]


def _json_translation(found: "Hypothesis", with_tokens: bool, with_attention: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"text": found.text, "score": found.score, "log_prob": found.log_prob}
    if with_tokens:
        entry |= {"tokens": found.pieces, "token_log_probs": found.token_log_probs, "alignment": found.alignment}
    if with_attention:
        weights = found.attention_weights
        entry["attention"] = None if weights is None else weights.astype(float).round(4).tolist()
    return entry
