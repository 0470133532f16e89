"""Where the rooms meet: configuration, layers, text and search become one Keras model."""

from seq2seq.models import labelers as labelers
from seq2seq.models import seq2seq as seq2seq
