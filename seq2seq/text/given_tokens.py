"""A tokenizer of tokens that somebody else numbered: the vocabulary of a model that was trained elsewhere."""

from collections.abc import Sequence

from sentencepiece import sentencepiece_model_pb2

from seq2seq.errors import TokenizerError
from seq2seq.text.ids import SPECIAL_PIECES, UNKNOWN_ID
from seq2seq.text.tokenizer import Tokenizer

KINDS = {"char": 4, "word": 3}
"""What tokens may be, and SentencePiece's number for it."""

SPACE = "▁"


def tokenizer_from_tokens(source_tokens: Sequence[str], target_tokens: Sequence[str], kind: str) -> Tokenizer:
    """The tokenizer that gives these tokens the ids from 4 on, in their order; each side has its own vocabulary.

    Args:
        source_tokens: Characters, or words without spaces; none of the special ones.
        target_tokens: The same for the target.
        kind: `char` or `word`.

    Raises:
        TokenizerError: A token comes twice, is empty, or is more than a character, or a word.
        ValueError: Another kind.

    >>> tokenizer = tokenizer_from_tokens(["the", "cat"], ["la", "kato"], "word")
    >>> tokenizer.encode_source(["the cat sat"]), tokenizer.decode_target([[4, 5]])
    ([[4, 5, 1, 3]], ['la kato'])
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, but is {kind!r} instead.")
    return Tokenizer(_model(source_tokens, "source_tokens", kind), _model(target_tokens, "target_tokens", kind))


def _model(tokens: Sequence[str], argument: str, kind: str) -> bytes:
    for place, token in enumerate(tokens):
        if not isinstance(token, str) or (len(token) != 1 if kind == "char" else not token or " " in token):
            wanted = "one character" if kind == "char" else "a word without spaces"
            raise TokenizerError(
                f"{argument}[{place}] must be {wanted} where kind is {kind}, but is {token!r} instead."
            )
    pieces = [token.replace(" ", SPACE) if kind == "char" else f"{SPACE}{token}" for token in tokens]
    if len(set(pieces)) < len(pieces):
        twice = next(token for place, token in enumerate(tokens) if pieces[place] in pieces[:place])
        raise TokenizerError(f"{argument} must hold each token once, but hold {twice!r} twice.")
    model = sentencepiece_model_pb2.ModelProto()
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    for place, piece in enumerate([*SPECIAL_PIECES, *pieces]):
        is_special = place < len(SPECIAL_PIECES)
        special = kinds.UNKNOWN if place == UNKNOWN_ID else kinds.CONTROL
        model.pieces.add(piece=piece, score=0.0, type=special if is_special else kinds.NORMAL)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = KINDS[kind]
    trainer.pad_id, trainer.unk_id, trainer.bos_id, trainer.eos_id = range(len(SPECIAL_PIECES))
    trainer.pad_piece, trainer.unk_piece, trainer.bos_piece, trainer.eos_piece = SPECIAL_PIECES
    # Characters are read as they come; words are what stands between spaces.
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = kind == "word"
    content: bytes = model.SerializeToString()
    return content
