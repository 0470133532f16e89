"""Text in, arrays of ids out, and back: SentencePiece does all text, and nothing here knows Keras."""
