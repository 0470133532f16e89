"""Scores of generated text: strings in, numbers out."""
