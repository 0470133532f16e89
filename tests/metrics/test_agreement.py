"""Agreement of verb and subject, counted by hand."""

import pytest

from seq2seq.errors import DataError
from seq2seq.metrics.agreement import AgreementItem, AgreementScore, agreement_accuracy, parse_agreement_items

TARGET = "le chat, qui a vu les chiens, n'est pas plein"
ITEM = AgreementItem(1, "the cat, which saw the dogs, is not full", TARGET, "est", "sont")


def verdict(hypothesis, item=ITEM):
    (score,) = agreement_accuracy([hypothesis], [item]).values()
    (name,) = [field for field, count in score._asdict().items() if count]
    return name


@pytest.mark.parametrize(
    ("hypothesis", "expected"),
    [
        (TARGET, "right"),
        ("le chien EST vide", "right"),
        ("le chat, qui a vu les chiens, ne sont pas pleins", "wrong"),
        ("le chat reste plein", "neither"),
        ("le chat est et sont plein", "neither"),
        ("", "neither"),
    ],
)
def test_one_translation(hypothesis, expected):
    assert verdict(hypothesis) == expected


def test_other_verbs_may_take_either_form():
    item = AgreementItem(1, "", "le chat que les chiens ont vu a faim", "a", "ont")
    assert verdict("le chat que les chiens ont vu a faim", item) == "right"
    assert verdict("le chat que les chiens ont vu ont faim", item) == "wrong"
    assert verdict("le chat que les chiens a vu a faim", item) == "right"
    item = AgreementItem(0, "", "les chats sont venus et sont pleins", "sont", "est")
    assert verdict("les chats sont venus et est pleins", item) == "wrong"


def test_form_of_several_words():
    item = AgreementItem(2, "", "les chats ont été vus", "ont été", "a été")
    assert verdict("les chats ont été vus", item) == "right"
    assert verdict("les chats a été vus", item) == "wrong"
    assert verdict("les chats ont vu, été", item) == "neither"


def test_scores_by_distractors():
    items = [ITEM._replace(distractors=n) for n in (3, 0, 3, 3, 10)]
    hypotheses = ["il est", "il sont", "il sont", "il est", "il va"]
    scores = agreement_accuracy(hypotheses, items)
    assert list(scores.items()) == [
        (0, AgreementScore(0, 1, 0)),
        (3, AgreementScore(2, 1, 0)),
        (10, AgreementScore(0, 0, 1)),
    ]
    assert scores[3].accuracy == pytest.approx(200 / 3)


def test_items_are_parsed():
    lines = [f"1\t{ITEM.source}\t{TARGET}\test\tsont", "0\ta\tles élèves vont\tvont\tva"]
    assert parse_agreement_items(lines, "a.tsv") == [ITEM, AgreementItem(0, "a", "les élèves vont", "vont", "va")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\ta\tb est\test", "5 tab-separated columns .* got 4"),
        ("1\ta\tb est\test\tsont\tx", "5 tab-separated columns .* got 6"),
        ("", "5 tab-separated columns .* got 1"),
        ("one\ta\tb est\test\tsont", "distractors must be .* got 'one'"),
        ("-1\ta\tb est\test\tsont", "distractors must be .* got '-1'"),
        ("1\ta\tb va\test\tsont", "target must contain the right form 'est'"),
        ("1\ta\tb est\test\tEst", "wrong form must be .* got 'Est'"),
        ("1\ta\tb est\test\t", "wrong form must be .* got ''"),
    ],
)
def test_bad_lines(line, message):
    with pytest.raises(DataError, match=f"a.tsv:2: .*{message}"):
        parse_agreement_items(["1\ta\til est\test\tsont", line], "a.tsv")


def test_no_items():
    with pytest.raises(DataError, match=r"a\.tsv: must hold at least one item"):
        parse_agreement_items([], "a.tsv")
