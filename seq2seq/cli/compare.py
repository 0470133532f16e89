"""`seq2seq compare`: what a setting changes, in a table and on a page."""

from typing import Annotated

import cyclopts

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_json
from seq2seq.config.flags import DEFAULT_RECIPE, Switch, Texts, with_setting_flags
from seq2seq.config.sweep import plan_comparison
from seq2seq.errors import Seq2SeqError


def _compare(
    recipe: str = DEFAULT_RECIPE,
    /,
    *,
    vary: Annotated[list[str] | None, cyclopts.Parameter(negative=(), metavar="KEY=VALUE,VALUE")] = None,
    name: str | None = None,
    json: Switch = False,
    flags: Texts,
) -> None:
    """Train variants of a recipe on the same data in the same order, and compare them.

    The same command goes on where it was stopped, and tries again what failed. The folder of the comparison, beside
    those of other runs, holds a folder for each variant, comparison.json, and the page comparison.html.

    Args:
        recipe: a YAML file of the settings below; what it leaves out keeps its default.
        vary: a setting that the variants differ in and the values that it takes, such as
            model.encoder.cell=rnn,lstm,gru; given several times: every combination. KEY,KEY=VALUE,VALUE: settings that
            always take the same value. Plus signs join the words of a list: model.context_inputs=state,state+readout.
        name: name of the comparison and its folder; left out: compare- and the name of the run.
        json: print one JSON object, and no table.
        flags: settings that change the recipe.
    """
    comparison = plan_comparison(recipe, vary or [], flags, name)
    import_tensorflow()
    from seq2seq.inspection.comparison import markdown, write_comparison
    from seq2seq.training.sweep import compare as train_variants

    for results in train_variants(comparison):
        page = write_comparison(comparison.folder / "comparison.html", results)
    if json:
        print_json(results)
    else:
        print(markdown(results))
        print(f"page: {page}")
    failed = [row["name"] for row in results["variants"] if row["status"] == "failed"]
    if failed:
        raise Seq2SeqError(
            f"{len(failed)} of {len(results['variants'])} variants failed: {'; '.join(failed)}. "
            "The reasons stand above; the same command tries them again."
        )


compare = with_setting_flags(_compare)
