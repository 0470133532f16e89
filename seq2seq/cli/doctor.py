"""`seq2seq doctor`: what is wrong with a recipe's data and machine, before an hour is spent on it."""

import dataclasses
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_json
from seq2seq.config.flags import DEFAULT_RECIPE, Switch, Texts, with_setting_flags
from seq2seq.config.recipe import merge
from seq2seq.errors import Seq2SeqError

if TYPE_CHECKING:
    from seq2seq.diagnostics.corpus_audit import Finding

WIDTH, NAME_WIDTH = 118, 20
MARKS = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM"}


def _doctor(
    recipe: str = DEFAULT_RECIPE,
    /,
    *,
    json: Switch = False,
    no_timing: Switch = False,
    flags: Texts,
) -> None:
    """Look at a recipe's data and at this machine as a run would meet them, and say what is wrong and what to do.

    The files are read line by line, the tokenizer is trained, a few steps are timed; nothing is left but the cache of
    the encoded pairs, which the run uses. The status is 1 where there is a problem: something that would stop the run
    (a file or line that cannot be used, a limit, a vocabulary, a folder, a kernel, memory or disk space, a loss that is
    no number) or spoil it (5 % or more of the dev or test pairs are in training). Warnings leave it at 0.

    Args:
        recipe: a YAML file of the settings below; what it leaves out keeps its default.
        json: print one JSON object, and nothing else.
        no_timing: time no steps: memory is estimated from the shapes, and minutes are not.
    """
    config = merge(recipe, flags)
    import_tensorflow()
    from seq2seq.diagnostics.doctor import diagnose

    findings: list[Finding] = []
    for finding in diagnose(config, timed=not no_timing):
        if not json:
            _print_finding(finding, findings[-1] if findings else None)
        findings.append(finding)
    counts = Counter(finding.verdict for finding in findings)
    if json:
        verdict = next(verdict for verdict in ("problem", "warning", "ok") if counts[verdict])
        found = [dataclasses.asdict(finding) for finding in findings]
        print_json({"recipe": recipe, "run": config.run.name, "verdict": verdict, "findings": found})
    else:
        print(f"\n{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} ok")
    problems = [finding.name for finding in findings if finding.verdict == "problem"]
    if problems:
        raise Seq2SeqError(
            f"The run must have no problems, but has {len(problems)} instead: {', '.join(problems)}. "
            "What to do stands beside each."
        )


def _print_finding(finding: "Finding", before: "Finding | None") -> None:
    topic, _, name = finding.name.partition(".")
    if before is None or before.name.partition(".")[0] != topic:
        print(topic if before is None else f"\n{topic}")
    start = f"  {MARKS[finding.verdict]:8}{name.replace('_', ' '):{NAME_WIDTH}}"
    lines = [
        textwrap.fill(line, WIDTH, initial_indent=start if place == 0 else " " * len(start),
                      subsequent_indent=" " * len(start), break_long_words=False, break_on_hyphens=False)
        for place, line in enumerate(finding.text.splitlines())
    ]  # fmt: skip
    print("\n".join(lines), flush=True)


doctor = with_setting_flags(_doctor)
