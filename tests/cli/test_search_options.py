"""The flags of the search are the settings of `DecodingConfig`, one by one."""

import dataclasses

import cyclopts
import pytest

from seq2seq.config.flags import AS_SAVED, SearchOptions, call, command_app
from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ConfigError


def parsed(*arguments):
    from typing import Annotated

    def command(*, search: Annotated[SearchOptions, cyclopts.Parameter(name="*")] = AS_SAVED):
        return search.given()

    app = command_app("search")
    app.default(command)
    return call(app, arguments)


def test_nothing_given_changes_nothing():
    assert parsed() == {}
    assert DecodingConfig().replaced(**parsed()) == DecodingConfig()


def test_every_setting_is_a_flag():
    other = DecodingConfig(
        beam_size=6, n_best=2, length_penalty="reward", length_penalty_alpha=0.3, coverage_penalty="wu",
        coverage_penalty_beta=0.1, max_length_ratio=1.5, max_length_extra=3, max_length=99, min_length_ratio=0.5,
        min_length=2, no_repeat_ngram_size=3, repetition_penalty=1.2, prefix="le chat", required_phrases=("un", "deux"),
        banned_phrases=("le chien",), beam_groups=2, diversity=0.7, batch_tokens=77,
    )  # fmt: skip
    sampled = DecodingConfig(sample=True, temperature=0.7, top_k=9, top_p=0.8, seed=4, mbr_samples=8)
    for wanted in (other, sampled):
        changed = {
            field.name: getattr(wanted, field.name)
            for field in dataclasses.fields(DecodingConfig)
            if getattr(wanted, field.name) != field.default
        }
        arguments = []
        for name, value in changed.items():
            arguments.append(f"--{name.replace('_', '-')}")
            arguments += [] if value is True else map(str, value) if isinstance(value, tuple) else [str(value)]
        assert DecodingConfig().replaced(**parsed(*arguments)) == wanted
    named = {field.name for field in dataclasses.fields(SearchOptions)}
    assert named == {field.name for field in dataclasses.fields(DecodingConfig)}


def test_a_wrong_word_is_told_as_everywhere():
    with pytest.raises(ConfigError, match='Did you mean "average"'):
        parsed("--length-penalty", "averag")
