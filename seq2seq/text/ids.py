"""The four ids that mean the same in every vocabulary, their pieces, and SentencePiece's sign for a space."""

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3

PAD_PIECE, UNKNOWN_PIECE, START_PIECE, END_PIECE = "<pad>", "<unk>", "<s>", "</s>"

SPECIAL_PIECES = (PAD_PIECE, UNKNOWN_PIECE, START_PIECE, END_PIECE)

FIRST_LABEL_ID = len(SPECIAL_PIECES)
"""Label vocabularies number the special tokens first, as subword vocabularies do."""

SPACE = "▁"
