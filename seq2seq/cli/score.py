"""`seq2seq score`: how probable a model holds given translations."""

import contextlib
import json as json_module
import logging
from typing import TYPE_CHECKING, Literal

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_json
from seq2seq.config.flags import Switch
from seq2seq.errors import ConfigError
from seq2seq.progress import ProgressBar
from seq2seq.serving.line_stream import WINDOW_CHARACTERS, WINDOW_LINES, opened_output, refuse_same_file

LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from seq2seq.serving.line_stream import ScoredPair


def score(
    model: str,
    /,
    *,
    source: str,
    target: str,
    output: str | None = None,
    format: Literal["text", "jsonl"] = "text",  # noqa: A002 - the word of the flag
    json: Switch = False,
) -> None:
    """Give the log-probability of each target, given its source, in nats, the end token counted.

    Every pair has its line, in order; a blank side is scored as it stands. A line that is not UTF-8, holds NUL or is
    longer than 10,000 characters has no score: it is named on standard error with file and line, and its line of output
    is blank. The perplexity of all tokens comes last, on standard error.

    Args:
        model: the model.keras of a run.
        source: the sources; may end in .gz.
        target: their targets, line by line.
        output: file for the scores; left out: standard output.
        format: text, a number a line; jsonl, an object a line with the log-probability, its tokens and that of each.
        json: instead of a line for each pair print one JSON object with the scores of all of them, and nothing else.
    """
    if json and (output is not None or format == "jsonl"):
        raise ConfigError("--json must come without --output and --format, but comes with one. Leave either out.")
    refuse_same_file(output, source, target)
    import_tensorflow()
    from seq2seq.models.archive import load
    from seq2seq.models.scoring import perplexity
    from seq2seq.serving.line_stream import StreamReport, pair_requests, score_stream
    from seq2seq.threads import use_single_threaded_ops, windows

    use_single_threaded_ops()
    scorer = load(model)
    pairs = pair_requests(source, target)
    cut = windows(
        pairs, WINDOW_LINES, lambda pair: len(pair.source) + len(pair.target), WINDOW_CHARACTERS, patience=None
    )
    report, log_prob, tokens = StreamReport(), 0.0, 0
    with (
        opened_output(output) as stream,
        contextlib.closing(cut),
        ProgressBar(None, "pair", hidden=stream.isatty() and not json) as bar,
    ):
        for scored in score_stream(scorer, cut, report):
            if scored.score is not None:
                log_prob += scored.score.log_prob
                tokens += len(scored.score.pieces)
            if not json:
                stream.write(f"{_json_line(scored) if format == 'jsonl' else _text_line(scored)}\n")
            bar.advance()
        if report.counts:
            LOG.info(report.summary())
        ppl = perplexity(-log_prob / tokens) if tokens else None
        summary = {"sentences": report.lines, "tokens": tokens, "log_prob": log_prob, "perplexity": ppl}
        if json:
            print_json(summary)
        elif ppl is not None:
            LOG.info(f"{report.lines:,} pairs, {tokens:,} tokens: perplexity {ppl:.2f}")


def _text_line(scored: "ScoredPair") -> str:
    return "" if scored.score is None else f"{scored.score.log_prob:.6f}"


def _json_line(scored: "ScoredPair") -> str:
    pair, found = scored
    record: dict[str, object] = {"source": pair.source, "target": pair.target}
    if found is not None:
        record |= {
            "log_prob": found.log_prob,
            "perplexity": found.perplexity,
            "tokens": found.pieces,
            "token_log_probs": found.token_log_probs,
        }
        if found.num_truncated_tokens:
            record["source_tokens_left_out"] = found.num_truncated_tokens
    if pair.problem is not None:
        record["problem"] = pair.problem.message
    return json_module.dumps(record, ensure_ascii=False)
