"""`seq2seq summarize`: the same as `translate`; the recipes of their models make the difference."""

from seq2seq.cli.translate import translate as summarize

__all__ = ["summarize"]
