"""Keras models made of configuration, layers, text and search."""

from seq2seq.models import labelers as labelers
from seq2seq.models import seq2seq as seq2seq
