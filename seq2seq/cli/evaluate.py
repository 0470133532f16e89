"""`seq2seq evaluate`: score a model on a test set, with confidence intervals, and test it against another system."""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import aligned, print_json, score_lines, shown
from seq2seq.config.flags import Switch, with_search_flags
from seq2seq.errors import ConfigError
from seq2seq.progress import ProgressBar
from seq2seq.serving.line_stream import on_one_line, opened_output, read_aligned, refuse_same_file

LOG = logging.getLogger(__name__)

LEVEL = 0.05


@with_search_flags
def evaluate(
    model: str,
    /,
    *,
    source: str,
    target: str,
    against: str | None = None,
    significance: Literal["bootstrap", "randomization"] = "bootstrap",
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a",
    lowercase: Switch = False,
    lowercase_tokenized: str | None = None,
    language: str | None = None,
    agreement: str | None = None,
    output: str | None = None,
    json: Switch = False,
    search: dict[str, Any],
) -> None:
    """Translate, summarize or label a test set and score the outputs.

    Each score has its 95 % interval from sacreBLEU's bootstrap: the mean over 1,000 test sets drawn from the same
    sentences, and half the width of the interval that holds 95 % of them. TER and perplexity are better if lower. TER
    ignores case, and its words are separated by white space.

    Summaries are scored by ROUGE, the tokens they share with the references, the share of their numbers and names that
    are not made up (precision), the share of the references' numbers and names that they have (recall), new words and
    pairs of words, and length.

    Labels are scored by accuracy, macro F1 and a confusion table, with intervals of the same kind.

    Args:
        model: the model.keras of a run.
        source: the lines to translate, summarize or label; may end in .gz.
        target: the reference outputs, line by line.
        against: another model.keras, or a file of outputs, line by line, to score next to the model; each of its scores
            has the probability that chance alone makes such a difference.
        significance: sacreBLEU's paired test for that: bootstrap draws the test set again 1,000 times; randomization
            exchanges the two systems' outputs for single sentences 10,000 times, which takes a minute.
        tokenize: words of BLEU: 13a, intl, zh or char of sacreBLEU; none for texts that are tokenized already, as
            lowercased and tokenized corpora are, with --lowercase as many papers score them.
        lowercase: BLEU, chrF and exact match ignore case.
        lowercase_tokenized: the references lowercased and tokenized by Moses: gives the BLEU that many papers report,
            for a model that writes plain text.
        language: code of the target's language, for that tokenizer.
        agreement: items of an agreement test; gives the share of right verb forms by number of distracting nouns.
        output: file for the model's outputs, which --against reads.
        json: print one JSON object, and nothing else.
        search: settings that change the model's search.
    """
    _check_flags(model, against, lowercase_tokenized, language, search)
    refuse_same_file(output, *(path for path in (model, source, target, against, lowercase_tokenized) if path))
    from seq2seq.text.lines import read_lines

    sources = list(read_lines(source))
    references = read_aligned(target, source, len(sources))
    tokenized = None if lowercase_tokenized is None else read_aligned(lowercase_tokenized, source, len(sources))
    is_model = against is not None and against.endswith(".keras")
    given = None if against is None or is_model else read_aligned(against, source, len(sources))
    import_tensorflow()
    from seq2seq.metrics.agreement import parse_agreement_items
    from seq2seq.threads import use_single_threaded_ops
    from seq2seq.training.evaluation import System, evaluate_agreement, metrics_for, score_systems

    items = None if agreement is None else parse_agreement_items(read_lines(agreement), agreement)
    use_single_threaded_ops()
    models = _load_models(model, against if is_model else None)
    task = models[model].task
    of_texts = {"tokenize": tokenize != "13a", "lowercase": lowercase, "lowercase_tokenized": tokenized is not None}
    is_tested = significance != "bootstrap"
    _refuse_options(metrics_for(task), search, agreement=items is not None, significance=is_tested, **of_texts)
    systems = _outputs(models, sources, references, search)
    if given is not None and against is not None:
        systems.append(System(against, given))
    if output is not None:
        with opened_output(output) as stream:
            stream.writelines(f"{on_one_line(text)}\n" for text in systems[0].hypotheses)
    found = score_systems(
        systems, sources, references, task=task, lowercase=lowercase, tokenize=tokenize, test=significance
    )
    if tokenized is not None and language is not None:
        _add_tokenized_bleu(found, systems, tokenized, language)
    if items is not None:
        found[0]["agreement"] = evaluate_agreement(models[model], items, **search)
    if json:
        print_json(found[0] | ({"against": found[1]} if len(found) == 2 else {}))
    else:
        print("\n".join(_report(found)))


def _check_flags(
    model: str, against: str | None, lowercase_tokenized: str | None, language: str | None, search: dict[str, Any]
) -> None:
    if (lowercase_tokenized is None) != (language is None):
        raise ConfigError("--lowercase-tokenized and --language must be given together, got one of them. Give both.")
    if against is not None and pathlib.Path(against).resolve() == pathlib.Path(model).resolve():
        raise ConfigError(f"--against must be another system than the model, got {against}. Name another.")
    if "n_best" in search:
        raise ConfigError("--n-best must be left out, since the best output of each line is scored.")


def _outputs(models: dict[str, Any], sources: list[str], references: list[str], search: dict[str, Any]) -> list[Any]:
    from seq2seq.training.evaluation import System

    with ProgressBar(len(models) * len(sources), "line") as bar:
        for path, one in models.items():
            if note := one.truncation.note(one.require_tokenizer(), sources):
                LOG.info(f"{path}: {note}")
        options = search | {"progress": bar.advance}
        return [System.from_model(one, path, sources, references, **options) for path, one in models.items()]


def _load_models(model: str, against: str | None) -> dict[str, Any]:
    """Load the models by their paths, before any of them works."""
    from seq2seq.models.archive import load

    models = {path: load(path) for path in (model, against) if path is not None}
    task = models[model].task
    if any(one.task != task for one in models.values()):
        raise ConfigError(f"--against must be a model that was trained to {task} too, got {against}. Name another.")
    return models


def _refuse_options(metrics: Any, search: Mapping[str, Any], **given: bool) -> None:
    """Refuse options that have no meaning for the scores of a task."""
    given |= {} if "search" in metrics.options else dict.fromkeys(search, True)
    for name, is_given in given.items():
        if is_given and name not in metrics.options:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} must be left out for a model that {metrics.does}.")


def _add_tokenized_bleu(
    found: Sequence[dict[str, Any]], systems: Sequence[Any], tokenized: Sequence[str], language: str
) -> None:
    from seq2seq.metrics.translation import tokenized_bleu

    for system, scores in zip(systems, found, strict=True):
        bleu = tokenized_bleu(system.hypotheses, tokenized, language=language, references_are_tokenized=True)
        scores["lowercase_tokenized_bleu"] = bleu.value
        scores["signature"]["lowercase_tokenized_bleu"] = bleu.signature


def _report(found: Sequence[dict[str, Any]]) -> list[str]:
    first, last = found[0], found[-1]
    is_paired = len(found) == 2
    names = sorted(first["confidence"], key=lambda name: name == "perplexity")
    rows = [[name, *(_interval(scores, name) for scores in found)] for name in names]
    if "lowercase_tokenized_bleu" in first:
        names.append("lowercase_tokenized_bleu")
        rows.append([names[-1], *(shown(scores[names[-1]]) for scores in found)])
    rows.insert(0, ["", *(scores["system"] for scores in found)])
    if is_paired:
        chances = ["p", *(_chance(last, name) for name in names)]
        rows = [[*row, chance] for row, chance in zip(rows, chances, strict=True)]
    lines = aligned(rows, left=(0,))
    if is_paired:
        lines += [f"p: probability that chance alone makes such a difference; * below {LEVEL}"]
    score = next(name for name in ("bleu", "rouge_l", "accuracy") if name in names)
    rows = [["words of the source", "sentences", *(score for _ in found)]]
    for parts in zip(*(scores["by_length"] for scores in found), strict=True):
        words = f"{parts[0]['shortest']}-{parts[0]['longest'] or ''}"
        rows.append([words, str(parts[0]["sentences"]), *(shown(part[score]) for part in parts)])
    lines += ["", *aligned(rows, left=(0,)), ""]
    rest = ("sentences", "agreement", "signature", "confusion")
    return [*lines, *score_lines({key: value for key, value in first.items() if key in rest})]


def _interval(scores: dict[str, Any], name: str) -> str:
    if name not in scores:
        return "-"
    confidence = scores["confidence"][name]
    return f"{scores[name]:.2f} ({confidence['mean']:.2f} ± {confidence['margin']:.2f})"


def _chance(scores: dict[str, Any], name: str) -> str:
    p_value = scores["p_value"].get(name)
    return "-  " if p_value is None else f"{p_value:.3f} {'*' if p_value < LEVEL else ' '}"
