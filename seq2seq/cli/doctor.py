"""`seq2seq doctor`: check a recipe's data and the machine before a run."""

import dataclasses
import textwrap
from collections import Counter
from typing import Any

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_json
from seq2seq.config.flags import DEFAULT_RECIPE, Switch, Texts, with_setting_flags
from seq2seq.config.recipe import merge
from seq2seq.errors import Seq2SeqError

WIDTH = 118
MARKS = {"problem": "PROBLEM", "warning": "WARNING", "ok": "ok"}


def _doctor(
    recipe: str = DEFAULT_RECIPE,
    /,
    *,
    json: Switch = False,
    no_timing: Switch = False,
    flags: Texts,
) -> None:
    """Check a recipe's data and this machine as a run would meet them, and report what is wrong and what to do.

    Reads the files line by line, trains the tokenizer, and times a few steps; leaves nothing but the cache of the
    encoded pairs, which the run uses. The status is 1 if there is a problem: something that would stop the run (a file
    or line that cannot be used, a limit, a vocabulary, a folder, a kernel, memory or disk space, a loss that is no
    number) or spoil it (5 % or more of the dev or test pairs are in training). Warnings leave it at 0.

    Args:
        recipe: a YAML file of the settings below; settings left out keep their defaults.
        json: print one JSON object, and nothing else.
        no_timing: time no steps: memory is estimated from the shapes, and minutes are not.
        flags: settings that change the recipe.
    """
    config = merge(recipe, flags)
    import_tensorflow()
    from seq2seq.diagnostics.doctor import diagnose

    findings: list[dict[str, Any]] = []
    topic = None
    for finding in diagnose(config, timed=not no_timing):
        findings.append(dataclasses.asdict(finding))
        if not json:
            before, (topic, _, name) = topic, finding.name.partition(".")
            if topic != before:
                print(topic if before is None else f"\n{topic}")
            print("\n".join(_lines(finding.verdict, name, finding.text)), flush=True)
    counts = Counter(finding["verdict"] for finding in findings)
    if json:
        verdict = next(verdict for verdict in MARKS if counts[verdict])
        print_json({"recipe": recipe, "run": config.run.name, "verdict": verdict, "findings": findings})
    else:
        print(f"\n{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} ok")
    if problems := [finding["name"] for finding in findings if finding["verdict"] == "problem"]:
        raise Seq2SeqError(
            f"The run must have no problems, got {len(problems)}: {', '.join(problems)}. Follow the advice of each."
        )


def _lines(verdict: str, name: str, text: str) -> list[str]:
    start = f"  {MARKS[verdict]:8}{name.replace('_', ' '):20}"
    blank = " " * len(start)
    wrapper = textwrap.TextWrapper(WIDTH, subsequent_indent=blank, break_long_words=False, break_on_hyphens=False)
    lines: list[str] = []
    for line in text.splitlines():
        wrapper.initial_indent = blank if lines else start
        lines += wrapper.wrap(line)
    return lines


doctor = with_setting_flags(_doctor)
