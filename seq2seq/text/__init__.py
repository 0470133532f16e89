"""Text in, arrays of ids out, and back: SentencePiece does all text, and nothing here knows Keras."""

from seq2seq.text.batching import Batch, Batches
from seq2seq.text.corpora import CorpusReport, Pair, Row, read_columns, read_pairs
from seq2seq.text.encoded import EncodedCorpus
from seq2seq.text.encoding import encode_corpus, fingerprint_files
from seq2seq.text.findings import Finding
from seq2seq.text.given_tokens import tokenizer_from_tokens
from seq2seq.text.ids import END_ID, FIRST_LABEL_ID, PAD_ID, START_ID, UNKNOWN_ID
from seq2seq.text.labels import LabelTokenizer, label_problem, split_labels
from seq2seq.text.lines import Line, Problem, read_lines, scan_lines, scan_stream
from seq2seq.text.prefetch import prefetch, windows
from seq2seq.text.ragged import Ragged, pad
from seq2seq.text.sampling import Sampling
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer
from seq2seq.text.truncation import Truncation

__all__ = [
    "END_ID",
    "FIRST_LABEL_ID",
    "PAD_ID",
    "START_ID",
    "UNKNOWN_ID",
    "Batch",
    "Batches",
    "CorpusReport",
    "EncodedCorpus",
    "Finding",
    "LabelTokenizer",
    "Line",
    "Pair",
    "Problem",
    "Ragged",
    "Row",
    "Sampling",
    "Tokenizer",
    "Truncation",
    "encode_corpus",
    "fingerprint_files",
    "label_problem",
    "pad",
    "prefetch",
    "read_columns",
    "read_lines",
    "read_pairs",
    "scan_lines",
    "scan_stream",
    "split_labels",
    "tokenizer_from_tokens",
    "train_tokenizer",
    "windows",
]
