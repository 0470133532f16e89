"""The lead baseline of summaries: the first N words of each text, N tuned on dev for each measure.

    python -m tests.benchmarks.first_words FOLDER

prints for the corpus `{dev,test}.{src,tgt}` in FOLDER a line a measure: N, and the score of the first N words on test.
"""

import json
import pathlib
import sys

from seq2seq.metrics.summaries import summary_scores

MEASURES = ("rouge_1", "rouge_2", "rouge_l", "token_f1")
MOST_WORDS = 20


def lead(sources: list[str], words: int) -> list[str]:
    return [" ".join(source.split()[:words]) for source in sources]


def first_words_scores(folder: pathlib.Path) -> dict[str, tuple[int, float]]:
    """Choose for each measure the number of words on dev, and score it on test."""
    dev, test = (
        [(folder / f"{part}.{side}").read_text(encoding="utf-8").splitlines() for side in ("src", "tgt")]
        for part in ("dev", "test")
    )

    def score(measure: str, pairs: list[list[str]], words: int) -> float:
        return summary_scores(lead(pairs[0], words), pairs[1], pairs[0])[measure].value

    found = {}
    for measure in MEASURES:
        words = max(range(1, MOST_WORDS + 1), key=lambda words, measure=measure: score(measure, dev, words))
        found[measure] = words, score(measure, test, words)
    return found


if __name__ == "__main__":
    for measure, (words, score) in first_words_scores(pathlib.Path(sys.argv[1])).items():
        print(json.dumps({"measure": measure, "words": words, "test": round(score, 2)}))
