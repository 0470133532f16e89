"""The lead baseline of summaries: the first N words of each text, N tuned on dev for each measure.

    python -m tests.benchmarks.first_words FOLDER

prints for the corpus `{dev,test}.{src,tgt}` in FOLDER a line a measure: N, and the score of the first N words on test.
"""

import json
import pathlib
import sys

from seq2seq.metrics.summaries import lead, summary_scores, tuned_lead

MEASURES = ("rouge_1", "rouge_2", "rouge_l", "token_f1")
MOST_WORDS = 20


def first_words_scores(folder: pathlib.Path) -> dict[str, tuple[int, float]]:
    """For each measure the number of words and the score on test."""
    dev, test = (
        [(folder / f"{part}.{side}").read_text(encoding="utf-8").splitlines() for side in ("src", "tgt")]
        for part in ("dev", "test")
    )

    def score(measure: str, summaries: list[str], pairs: list[list[str]]) -> float:
        return summary_scores(summaries, pairs[1], pairs[0])[measure].value

    found = {}
    for measure in MEASURES:
        words = tuned_lead(*dev, lambda summaries, _, measure=measure: score(measure, summaries, dev), MOST_WORDS)
        found[measure] = words, score(measure, lead(test[0], words), test)
    return found


if __name__ == "__main__":
    for measure, (words, score) in first_words_scores(pathlib.Path(sys.argv[1])).items():
        print(json.dumps({"measure": measure, "words": words, "test": round(score, 2)}))
