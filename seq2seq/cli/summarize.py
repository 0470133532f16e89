"""`seq2seq summarize`: what `translate` does; how they differ, the recipes of their models say."""

from seq2seq.cli.translate import translate as summarize

__all__ = ["summarize"]
