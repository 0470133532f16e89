"""`seq2seq shortlist`: lets a model learn which tokens translate which, for faster decoding."""

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.errors import DataError


def shortlist(model: str, /, *, source: str, target: str) -> None:
    """Learn from pairs which target tokens translate which source tokens, and write that into the model file.

    Commands that decode then have the option --shortlist.

    Args:
        model: the model.keras of a run; it is written anew.
        source: lines of the training data; may end in .gz.
        target: their translations, line by line.
    """
    from seq2seq.text import read_lines

    sources, targets = list(read_lines(source)), list(read_lines(target))
    if len(sources) != len(targets):
        raise DataError(
            f"{target}: must have as many lines as {source} ({len(sources)}), but has {len(targets)} instead. "
            "Check that no line was lost or added."
        )
    import_tensorflow()
    from seq2seq.model import load, save

    loaded = load(model)
    loaded.learn_lexicon(sources, targets)
    save(loaded, model)
    print(f"{model}: has learned from {len(sources):,} pairs")
