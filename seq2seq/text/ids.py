"""The four ids that mean the same in every vocabulary, and what their pieces are called."""

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3

PAD_PIECE, UNKNOWN_PIECE, START_PIECE, END_PIECE = "<pad>", "<unk>", "<s>", "</s>"

SPECIAL_PIECES = (PAD_PIECE, UNKNOWN_PIECE, START_PIECE, END_PIECE)

FIRST_LABEL_ID = len(SPECIAL_PIECES)
"""Where the target is labels, the special ids come before theirs as before those of pieces."""
