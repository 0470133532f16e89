"""Diagnosis of a recipe's data and of the machine, in the order in which a run would meet them."""

import logging
from collections.abc import Iterator

import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics import machine
from seq2seq.diagnostics.corpus_audit import Finding, Readers, audit_texts, audit_tokens, judged
from seq2seq.errors import ConfigError, Seq2SeqError
from seq2seq.models.build import check_recipe
from seq2seq.text.corpus import CorpusReport
from seq2seq.text.ids import FIRST_LABEL_ID
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.training.data import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.fine_tuning import init_from, read_start
from seq2seq.training.optimizers import fastest_precision
from seq2seq.training.run_folder import check_folder
from seq2seq.training.step import choose_workers, create_step
from seq2seq.training.trainer import Trainer, recurrent_parameters

LOG = logging.getLogger(__name__)

SHOWN_LABELS, FEWEST_EXAMPLES = 12, 5


def diagnose(config: Config, timed: bool) -> Iterator[Finding]:
    """Yield findings as they are made; `timed`: take a few steps. A problem ends what depends on it.

    Unusable lines are skipped and reported, so that one of them does not hide the others.
    """
    # Must be set before TensorFlow runs its first operation.
    workers = choose_workers(config.training.workers)
    check_recipe(config)
    yield machine.folder_finding(config.run.path, _refusal(config))
    diagnosis = _Diagnosis(config, timed, workers)
    try:
        yield from diagnosis.run()
    except Seq2SeqError as error:
        yield Finding(diagnosis.stage, "problem", str(error), {})


class _Diagnosis:
    """The stages of a diagnosis; `stage` names the finding that an error of the run becomes."""

    def __init__(self, config: Config, timed: bool, workers: int) -> None:
        self.stage = "data.files"
        self._config, self._timed, self._workers = config, timed, workers
        self._lenient = config.replaced(data=config.data.replaced(on_bad_line="skip").to_dict())
        # The run would stop at a line or pair that is skipped here.
        self._skips_pairs = False

    def run(self) -> Iterator[Finding]:
        config = self._config
        corpus = Corpus(self._lenient)
        readers: Readers = {"train": corpus.train_pairs, "dev": corpus.dev_pairs}
        if config.data.dev is None:
            # Its unusable lines are those of the training files, and reported with these.
            readers["dev"] = lambda _: corpus.dev_pairs(CorpusReport())
        if config.data.test is not None:
            readers["test"] = corpus.test_pairs
        readable: Readers = {}
        for finding in self._watched(audit_texts(readers, config)):
            yield finding
            name, _, topic = finding.name.partition(".")
            if topic == "lengths":
                readable[name] = readers[name]
        yield from _agreement_findings(corpus)
        if "train" not in readable:
            return
        if config.gives_labels:
            self.stage = "data.labels"
            yield labels_finding(corpus.labels)
        self.stage = "tokens.tokenizer"
        LOG.info("making the tokenizer ...")
        start = read_start(config)
        tokenizer = start.require_tokenizer() if start else create_tokenizer(self._lenient, corpus)
        yield _tokenizer_finding(config, tokenizer)
        yield from self._watched(audit_tokens(readable, tokenizer, config))
        self.stage = "training.start"
        LOG.info("encoding the training pairs ...")
        # Unless pairs are skipped, the cache is the one that the run will look for.
        recipe = self._lenient if self._skips_pairs else config
        batches = create_batches(recipe, corpus, tokenizer)
        trainer = Trainer(config, create_step(config, tokenizer, self._workers), batches, Texts([], []))
        if start:
            LOG.info(init_from(trainer.step, start, config))
        yield from machine_findings(trainer, tokenizer, self._timed)

    def _watched(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        for finding in findings:
            yield finding
            self._skips_pairs |= finding.verdict == "problem" and finding.name in ("train.pairs", "tokens.limits")


def machine_findings(trainer: Trainer, tokenizer: Tokenizer, timed: bool) -> Iterator[Finding]:
    """Yield findings on a run that is ready to begin, on this machine."""
    config, model = trainer.config, trainer.step.model
    settings, vocabulary = config.training, model.target_vocabulary_size
    kernels = machine.kernels_finding(model.kernel_choices(), config.model.implementation, model.is_sequential)
    yield kernels
    yield machine.precision_finding(settings.precision, fastest_precision())
    parameters = model.count_params()
    yield machine.parameters_finding(parameters, recurrent_parameters(model), tokenizer.source.size, vocabulary)
    largest, shape, estimated = machine.largest_batch(
        config, parameters, vocabulary, trainer.batches.shapes(0), trainer.step.workers
    )
    memory = machine.memory_finding(
        machine.peak_memory() + estimated, machine.available_memory(), shape, measured=False
    )
    dry_run = None
    # A step that does not fit into memory would end this process.
    if timed and kernels.verdict != "problem" and memory.verdict != "problem":
        LOG.info("taking a few steps ...")
        try:
            dry_run = machine.dry_run(trainer, largest)
            memory = machine.memory_finding(dry_run.peak_bytes, machine.available_memory(), shape, measured=True)
        except tf.errors.ResourceExhaustedError:
            memory = machine.exhausted_finding(shape)
    yield memory
    yield machine.disk_finding(config.run.path, parameters, settings.average_checkpoints)
    batches = trainer.batches_per_epoch * settings.epochs
    yield machine.steps_finding(batches, trainer.total_steps, settings.epochs, settings.warmup_steps)
    if dry_run:
        yield machine.loss_finding(dry_run, vocabulary)
        yield machine.minutes_finding(dry_run, batches, settings.minutes)


def labels_finding(counts: dict[str, int]) -> Finding:
    """Judge whether some labels have too few examples in the training files to be learned."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count:,}" for label, count in ordered[:SHOWN_LABELS])
    rare = [label for label, count in ordered if count < FEWEST_EXAMPLES]
    shown_rare = ", ".join(rare[-SHOWN_LABELS:])
    return judged(
        "data.labels",
        f"{len(counts):,} labels: {shown}{', ...' if len(counts) > SHOWN_LABELS else ''}",
        {"labels": len(counts), "rare": len(rare)},
        (
            bool(rare),
            "warning",
            f"{shown_rare} have few examples: add some, or check data.target.",
        ),
    )


def _refusal(config: Config) -> ConfigError | None:
    try:
        check_folder(config, resume=False)
    except ConfigError as error:
        return error
    return None


def _agreement_findings(corpus: Corpus) -> Iterator[Finding]:
    try:
        items = corpus.agreement()
    except Seq2SeqError as error:
        yield Finding("data.agreement", "problem", str(error), {})
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
