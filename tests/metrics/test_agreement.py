"""Whether the verb kept the subject's number, counted by hand."""

import pytest

from seq2seq.errors import DataError
from seq2seq.metrics.agreement import AgreementItem, AgreementScore, agreement_accuracy, read_agreement_items

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


def test_other_verbs_of_the_sentence_may_take_either_form():
    item = AgreementItem(1, "", "le chat que les chiens ont vu a faim", "a", "ont")
    assert verdict("le chat que les chiens ont vu a faim", item) == "right"
    assert verdict("le chat que les chiens ont vu ont faim", item) == "wrong"
    assert verdict("le chat que les chiens a vu a faim", item) == "right"
    item = AgreementItem(0, "", "les chats sont venus et sont pleins", "sont", "est")
    assert verdict("les chats sont venus et est pleins", item) == "wrong"


def test_a_form_of_several_words():
    item = AgreementItem(2, "", "les chats ont été vus", "ont été", "a été")
    assert verdict("les chats ont été vus", item) == "right"
    assert verdict("les chats a été vus", item) == "wrong"
    assert verdict("les chats ont vu, été", item) == "neither"


def test_scores_by_the_number_of_distractors():
    items = [ITEM._replace(distractors=n) for n in (3, 0, 3, 3, 10)]
    hypotheses = ["il est", "il sont", "il sont", "il est", "il va"]
    scores = agreement_accuracy(hypotheses, items)
    assert list(scores.items()) == [
        (0, AgreementScore(0, 1, 0)),
        (3, AgreementScore(2, 1, 0)),
        (10, AgreementScore(0, 0, 1)),
    ]
    assert scores[3].accuracy == pytest.approx(200 / 3)
    assert scores[10].accuracy == 0.0


def test_unequal_counts():
    with pytest.raises(DataError, match="hypotheses must be as many as items, 1, but are 2 instead"):
        agreement_accuracy(["a", "b"], [ITEM])


def test_items_are_read_from_a_file(tmp_path):
    path = tmp_path / "agreement.tsv"
    path.write_text(f"1\t{ITEM.source}\t{TARGET}\test\tsont\n0\ta\tles élèves vont\tvont\tva\n", encoding="utf-8")
    assert read_agreement_items(path) == [ITEM, AgreementItem(0, "a", "les élèves vont", "vont", "va")]
    assert read_agreement_items(str(path))[0] == ITEM


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\ta\tb est\test", r"agreement.tsv:2: expected 5 tab-separated columns \(distractors, .*\), got 4"),
        ("1\ta\tb est\test\tsont\tx", "agreement.tsv:2: expected 5 tab-separated columns .* got 6"),
        ("", "agreement.tsv:2: expected 5 tab-separated columns .* got 1"),
        ("one\ta\tb est\test\tsont", "agreement.tsv:2: distractors must be a whole number, but is 'one' instead"),
        ("-1\ta\tb est\test\tsont", "agreement.tsv:2: distractors must be a whole number, but is '-1' instead"),
        ("1\ta\tb va\test\tsont", "agreement.tsv:2: the target must hold the right form 'est', but does not"),
        ("1\ta\tb est\test\tEst", "agreement.tsv:2: the wrong form must be another word .* 'est', but is 'Est'"),
        ("1\ta\tb est\test\t", "agreement.tsv:2: the wrong form must be another word .* 'est', but is ''"),
    ],
)
def test_lines_that_are_no_items(tmp_path, line, message):
    path = tmp_path / "agreement.tsv"
    path.write_text(f"1\ta\til est\test\tsont\n{line}\n1\ta\til est\test\tsont\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_agreement_items(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"absent\.tsv: cannot be read \(No such file or directory\)"):
        read_agreement_items(tmp_path / "absent.tsv")
    (tmp_path / "latin.tsv").write_bytes(b"1\ta\t\xe9t\xe9\t\xe9\te\n")
    with pytest.raises(DataError, match=r"latin\.tsv: must be UTF-8 text, but has other bytes at 4 instead"):
        read_agreement_items(tmp_path / "latin.tsv")
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(DataError, match=r"empty\.tsv: must hold at least one item, but is empty instead"):
        read_agreement_items(tmp_path / "empty.tsv")
