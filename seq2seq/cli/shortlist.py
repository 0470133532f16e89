"""`seq2seq shortlist`: learn which tokens translate which, for faster decoding."""

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.serving.line_stream import read_aligned


def shortlist(model: str, /, *, source: str, target: str) -> None:
    """Learn from pairs which target tokens translate which source tokens, and write that into the model file.

    Commands that decode then have the option --shortlist.

    Args:
        model: the model.keras of a run, which is replaced.
        source: lines of the training data; may end in .gz.
        target: their translations, line by line.
    """
    from seq2seq.text.lines import read_lines

    sources = list(read_lines(source))
    targets = read_aligned(target, source, len(sources))
    import_tensorflow()
    from seq2seq.models.archive import load, save
    from seq2seq.models.seq2seq import Seq2Seq

    loaded = load(model, Seq2Seq)
    loaded.learn_lexicon(sources, targets)
    save(loaded, model)
    print(f"{model}: has learned from {len(sources):,} pairs")
