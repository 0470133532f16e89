"""What is wrong with a recipe's data and with the machine, looked at as a run would meet them, before it begins."""

import dataclasses
import logging
from collections.abc import Iterator

import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics import machine
from seq2seq.diagnostics.corpus_audit import Finding, Readers, examine_texts, examine_tokens
from seq2seq.diagnostics.machine import available_memory, dry_run, peak_memory
from seq2seq.errors import ConfigError, Seq2SeqError
from seq2seq.text.corpus import CorpusReport
from seq2seq.text.ids import FIRST_LABEL_ID
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.training.data import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.fine_tuning import init_from, read_start
from seq2seq.training.optimizers import fastest_precision
from seq2seq.training.run_folder import check_folder
from seq2seq.training.step import choose_workers
from seq2seq.training.trainer import Trainer, recurrent_parameters

LOG = logging.getLogger(__name__)

MOST_LABELS, FEW = 12, 5
"""Labels that are shown, and examples below which a label can hardly be learnt."""


def diagnose(config: Config, timed: bool) -> Iterator[Finding]:
    """Looks at all that a run needs, in the order in which it needs it; what one problem hides is left out.

    Lines that cannot be used are passed over here, so that one of them does not hide the others.

    Args:
        config: The run.
        timed: Whether to take a few steps.

    Returns:
        An iterator over the findings, as they are made.
    """
    workers = choose_workers(config.training.workers)
    yield machine.folder_finding(config.run.path, _refusal(config))
    stops = config.data.on_bad_line == "error"
    patient = dataclasses.replace(config, data=config.data.replaced(on_bad_line="skip"))
    try:
        corpus = Corpus(patient)
    except Seq2SeqError as error:
        yield _failure("data.files", error)
        return
    readers: Readers = {"train": corpus.train_pairs, "dev": corpus.dev_pairs}
    if config.data.dev is None:
        # Its bad lines are those of the training files, and told with these.
        readers["dev"] = lambda _: corpus.dev_pairs(CorpusReport())
    if config.data.test is not None:
        readers["test"] = corpus.test_pairs
    readable: list[str] = []
    unusable = False
    for finding in examine_texts(readers, stops, config.tokenizer.normalization):
        yield finding
        unusable |= finding.verdict == "problem" and finding.name == "train.pairs"
        if finding.name.endswith(".lengths"):
            readable.append(finding.name.partition(".")[0])
    yield from _agreement_findings(corpus)
    if config.gives_labels and "train" in readable:
        try:
            yield labels_finding(corpus.labels)
        except Seq2SeqError as error:
            yield _failure("data.labels", error)
            return
    if "train" not in readable:
        return
    LOG.info("making the tokenizer ...")
    try:
        start = read_start(config)
        tokenizer = start.require_tokenizer() if start else create_tokenizer(patient, corpus)
    except Seq2SeqError as error:
        yield _failure("tokens.tokenizer", error)
        return
    yield _tokenizer_finding(config, tokenizer)
    for finding in examine_tokens(
        {name: readers[name] for name in readable},
        tokenizer,
        max_source_tokens=config.data.max_source_tokens,
        max_target_tokens=config.data.max_target_tokens,
        truncate=config.data.truncate,
        words=config.tokenizer.kind == "word",
        stops=stops,
    ):
        yield finding
        unusable |= finding.verdict == "problem" and finding.name == "tokens.limits"
    LOG.info("encoding the training pairs ...")
    try:
        # Where nothing has to be passed over, the cache is the one that the run will look for.
        batches = create_batches(patient if unusable else config, corpus, tokenizer, config.run.path.parent / ".cache")
        trainer = Trainer(config, tokenizer, batches, Texts([], []), workers=workers)
        if start:
            LOG.info(init_from(trainer.step, start, config))
    except Seq2SeqError as error:
        yield _failure("training.start", error)
        return
    yield from machine_findings(trainer, tokenizer, timed)


def machine_findings(trainer: Trainer, tokenizer: Tokenizer, timed: bool) -> Iterator[Finding]:
    """What can be said of a run that is ready to begin, on this machine.

    Args:
        trainer: Of the run.
        tokenizer: Of the run.
        timed: Whether to take a few steps.
    """
    config, model = trainer.config, trainer.step.model
    settings, vocabulary = config.training, model.target_vocabulary_size
    step_by_step = model.is_sequential
    kernels = machine.kernels_finding(model.kernel_choices(), config.model.implementation, step_by_step)
    yield kernels
    yield machine.precision_finding(settings.precision, fastest_precision())
    parameters = model.count_params()
    yield machine.parameters_finding(parameters, recurrent_parameters(model), tokenizer.source.size, vocabulary)
    largest, shape, estimated = machine.largest_batch(
        config, parameters, vocabulary, trainer.batches.shapes(0), trainer.step.workers
    )
    memory = machine.memory_finding(peak_memory() + estimated, available_memory(), shape, measured=False)
    rehearsal = None
    # A step for which there is no memory would end this process too.
    if timed and kernels.verdict != "problem" and memory.verdict != "problem":
        LOG.info("taking a few steps ...")
        try:
            rehearsal = dry_run(trainer, largest)
            memory = machine.memory_finding(rehearsal.peak_bytes, available_memory(), shape, measured=True)
        except tf.errors.ResourceExhaustedError:
            memory = machine.exhausted_finding(shape)
    yield memory
    yield machine.disk_finding(config.run.path, parameters, settings.average_checkpoints)
    batches = trainer.batches_per_epoch * settings.epochs
    yield machine.steps_finding(batches, trainer.total_steps, settings.epochs, settings.warmup_steps)
    if rehearsal:
        yield machine.loss_finding(rehearsal, vocabulary)
        yield machine.minutes_finding(rehearsal, batches, settings.minutes)


def _refusal(config: Config) -> ConfigError | None:
    try:
        check_folder(config, resume=False)
    except ConfigError as error:
        return error
    return None


def _failure(name: str, error: Seq2SeqError) -> Finding:
    """A mistake that the run would report too, and stop."""
    return Finding(name, "problem", str(error), {})


def labels_finding(counts: dict[str, int]) -> Finding:
    """How many labels there are, and whether some are too rare to be learnt.

    Args:
        counts: How often each label is in the training files.
    """
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count:,}" for label, count in ordered[:MOST_LABELS])
    text = f"{len(counts):,} labels: {shown}{', ...' if len(counts) > MOST_LABELS else ''}"
    rare = [label for label, count in ordered if count < FEW]
    if rare:
        text += f". {len(rare):,} have fewer than {FEW} examples, {rare[-1]} among them: add some, or check data.target"
    return Finding("data.labels", "warning" if rare else "ok", text, {"labels": len(counts), "rare": len(rare)})


def _agreement_findings(corpus: Corpus) -> Iterator[Finding]:
    try:
        items = corpus.agreement()
    except Seq2SeqError as error:
        yield _failure("data.agreement", error)
        return
    if items is not None:
        yield Finding("data.agreement", "ok", f"{len(items):,} agreement items", {"items": len(items)})


def _tokenizer_finding(config: Config, tokenizer: Tokenizer) -> Finding:
    origin = "trained on the training pairs"
    if config.training.init_from is not None:
        origin = f"that of {config.training.init_from}"
    numbers = {"source": tokenizer.source.size, "target": tokenizer.target.size}
    sizes = f"{numbers['source']:,} tokens"
    if config.gives_labels:
        numbers["target"] -= FIRST_LABEL_ID
        sizes = f"{numbers['source']:,} source tokens and {numbers['target']:,} labels"
    elif not tokenizer.is_joint:
        sizes = f"{numbers['source']:,} source and {numbers['target']:,} target tokens"
    return Finding("tokens.tokenizer", "ok", f"{config.tokenizer.kind}, {sizes}, {origin}", numbers)
