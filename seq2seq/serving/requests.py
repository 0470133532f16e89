"""What a line asks of the model: a source alone, or a JSON object with a source, wishes and its own keys."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from seq2seq.text import Line, Problem
from seq2seq.text.lines import TOO_LONG

PHRASES = ("required", "banned")


class Request(NamedTuple):
    """One line of input.

    Args:
        where: its file and number, for messages.
        source: what to translate.
        prefix: what the translation shall start with.
        required: words or phrases that it shall hold.
        banned: words or phrases that it shall not hold.
        record: the JSON object that the line was, which goes with its answer.
        problem: what is wrong with the line; where it is too long, `source` is its beginning, otherwise nothing.
    """

    where: str
    source: str = ""
    prefix: str = ""
    required: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()
    record: Mapping[str, Any] = {}
    problem: Problem | None = None


def text_requests(lines: Iterable[Line]) -> Iterator[Request]:
    """The requests of lines of plain text: each is a source."""
    return (Request(line.where, line.text, problem=line.problem) for line in lines)


def json_requests(lines: Iterable[Line]) -> Iterator[Request]:
    """The requests of JSON lines: each is an object with the key `source`.

    `prefix` (a string), `required` and `banned` (lists of strings) say what the translation shall start with, hold
    and not hold. All other keys are the caller's own.

    >>> (request,) = json_requests([Line("<stdin>:1", '{"id": 7, "source": "a cat", "required": ["chat"]}')])
    >>> request.source, request.required, request.record["id"]
    ('a cat', ('chat',), 7)
    """
    return (_json_request(line) for line in lines)


def _json_request(line: Line) -> Request:
    if line.problem is not None:
        # The beginning of an object is none.
        return Request(line.where, problem=line.problem._replace(reason=_worded(line.problem)))
    try:
        record = json.loads(line.text, parse_constant=_refuse_constant)
        # Half a surrogate pair is legal in JSON and nowhere else: neither search nor output could take it.
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _bad(line, "not Unicode", "must be valid Unicode, but holds half a surrogate pair instead.")
    except (ValueError, RecursionError) as error:
        return _bad(line, "not JSON", f"must be a JSON object, but is none ({error}).")
    if not isinstance(record, dict):
        return _bad(line, "not JSON", f"must be a JSON object, but is {_kind(record)} instead.")
    if not isinstance(record.get("source"), str):
        found = f"is {_kind(record['source'])} instead" if "source" in record else "is missing"
        return _bad(line, "no source", f'"source" must be a string, but {found}.', record)
    if not isinstance(record.get("prefix", ""), str):
        return _bad(line, "bad option", f'"prefix" must be a string, but is {_kind(record["prefix"])} instead.', record)
    for key in PHRASES:
        phrases = record.get(key, [])
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            return _bad(line, "bad option", f'"{key}" must be a list of strings, but is {phrases!r} instead.', record)
    return Request(
        line.where,
        record["source"],
        record.get("prefix", ""),
        tuple(record.get("required", ())),
        tuple(record.get("banned", ())),
        record,
    )


def _worded(problem: Problem) -> str:
    return "JSON line too long" if problem.reason == TOO_LONG else problem.reason


def _bad(line: Line, reason: str, message: str, record: Mapping[str, Any] | None = None) -> Request:
    return Request(line.where, record=record or {}, problem=Problem(reason, message))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
