"""`seq2seq score`: the log-probabilities of given translations."""

import logging

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_json
from seq2seq.config.flags import Switch
from seq2seq.errors import ConfigError
from seq2seq.serving.line_stream import Format, Scores, answer_requests, pair_requests, refuse_same_file

LOG = logging.getLogger(__name__)


def score(
    model: str,
    /,
    *,
    source: str,
    target: str,
    output: str | None = None,
    format: Format = "text",  # noqa: A002 - the word of the flag
    json: Switch = False,
) -> None:
    """Compute the log-probability of each target, given its source, in nats, with the end token.

    Every pair has one line, in order; a blank side is scored as it is. A line that is not UTF-8, holds NUL or is longer
    than 10,000 characters has no score: it is named on standard error with file and line, and its line of output is
    blank. The perplexity of all tokens comes last, on standard error.

    Args:
        model: the model.keras of a run.
        source: the sources; may end in .gz.
        target: their targets, line by line.
        output: file for the scores; left out: standard output.
        format: text, a number a line; jsonl, an object a line with the log-probability, and that of each token.
        json: instead of a line for each pair print one JSON object with the scores of all of them, and nothing else.
    """
    if json and (output is not None or format == "jsonl"):
        raise ConfigError("--json must come without --output and --format, but comes with one. Leave either out.")
    refuse_same_file(output, source, target)
    import_tensorflow()
    from seq2seq.models.archive import load
    from seq2seq.models.results import perplexity
    from seq2seq.threads import use_single_threaded_ops

    use_single_threaded_ops()
    scores = Scores(load(model))
    report = answer_requests(pair_requests(source, target), scores, output, None if json else format, unit="pair")
    tokens, ppl = scores.tokens, perplexity(-scores.log_prob / scores.tokens) if scores.tokens else None
    if json:
        print_json({"sentences": report.lines, "tokens": tokens, "log_prob": scores.log_prob, "perplexity": ppl})
    elif ppl is not None:
        LOG.info(f"{report.lines:,} pairs, {tokens:,} tokens: perplexity {ppl:.2f}")
