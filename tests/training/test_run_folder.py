"""What a run's recipe says otherwise than when it began."""

import pytest
import yaml

from seq2seq.config.sections import Config
from seq2seq.training.run_folder import RECIPE, recipe_changes


@pytest.mark.parametrize(
    ("train", "changes"),
    [
        ({"web": 0.5, "news": 2}, []),
        ({"news": 2}, ["data.train was {'news': 2.0, 'web': 0.5} and is {'news': 2.0}"]),
        ("news", ["data.train was {'news': 2.0, 'web': 0.5} and is 'news'"]),
    ],
)
def test_a_corpus_left_out_is_a_change_and_another_order_is_none(tmp_path, train, changes):
    def config(train):
        return Config.from_dict({"data": {"train": train}, "run": {"folder": str(tmp_path)}})

    began = config({"news": 2, "web": 0.5})
    began.run.path.mkdir()
    (began.run.path / RECIPE).write_text(yaml.safe_dump(began.to_dict()), encoding="utf-8")
    resumed = config(train)
    assert recipe_changes(resumed) == changes
    assert list(resumed.data.corpora) == sorted(resumed.data.corpora)
