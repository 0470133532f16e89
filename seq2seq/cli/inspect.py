"""`seq2seq inspect`: what a trained model does with one sentence, as a page or as numbers."""

import sys

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_json
from seq2seq.config.flags import Switch
from seq2seq.errors import ConfigError, DataError

PAGE = "inspect.html"


def inspect(
    model: str,
    sentence: str,
    /,
    *,
    target: str | None = None,
    output: str | None = None,
    json: Switch = False,
    span: str | None = None,
    around: int | None = None,
    corpus: str | None = None,
    labels: str | None = None,
) -> None:
    """Look inside a trained model at one sentence: every gate and state, alignment, memory, gradient flow.

    Args:
        model: the model.keras of a run.
        sentence: the source text.
        target: its translation; left out: the model's own.
        output: the page, one HTML file that opens without a network; left out: inspect.html, and with --json none.
        json: print the numbers of the page as one JSON object, and nothing else.
        span: words of the sentence or of its translation: which units are on across them, and off outside?
        around: number of steps on either side of the span at which the units must be off; left out: all.
        corpus: lines of text; with --span: where else are these units on together?
        labels: labelled sentences, such as data/en-fr/number.tsv: which units tell the label?
    """
    for flag, value in (("--around", around), ("--corpus", corpus)):
        if value is not None and span is None:
            raise ConfigError(f"{flag} must come with --span. Say which words to look at.")
    if around is not None and around < 0:
        raise ConfigError(f"--around must be 0 or more, got {around}.")
    from seq2seq.text.lines import read_lines

    lines = [] if corpus is None else list(read_lines(corpus))
    import_tensorflow()
    from seq2seq.inspection.report import as_numbers, inspect_sentence
    from seq2seq.inspection.sentence_page import write_sentence_page
    from seq2seq.inspection.unit_probes import held_out, read_labelled_sentences
    from seq2seq.models.archive import load

    labelled = [] if labels is None else read_labelled_sentences(labels)
    if labelled:
        try:
            held_out([sentence.label for sentence in labelled])
        except ValueError as error:
            raise DataError(f"{labels}: {error}") from error
    loaded = load(model)
    if note := loaded.truncation.note(loaded.require_tokenizer(), [sentence]):
        print(note, file=sys.stderr)
    found = inspect_sentence(loaded, sentence, target, span, around, lines, labelled)
    if output is not None or not json:
        page = write_sentence_page(output or PAGE, found, model)
    if json:
        print_json(as_numbers(found))
    else:
        print(f"{found.trace.target}\n{page}")
