"""A model at work: lines come in, answers go out in the same order, however many, and whatever some of them are."""
