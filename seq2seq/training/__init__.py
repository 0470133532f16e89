"""The training room: corpus, step, loop, checkpoints and scores of a run."""
