"""Measure time and memory of a training step and of a translation for sources of hundreds of tokens.

    python -m tests.benchmarks.long_sources [LENGTH ...] [--section.key value ...]

prints a row for each length (100, 500, 1000 and 2000 tokens where none is given) and encoder. The model is that of the
default recipe, 8,000 words; sentences are made up. A step is one of 8 pairs with targets of 40 tokens, a translation
that of one sentence into 40 tokens with a beam of 5. Settings that are given hold for every encoder.
"""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
LENGTHS = (100, 500, 1_000, 2_000)
ENCODERS = {
    "every token": (),
    "convolution, stride 4": ("--model.encoder.front_end", "convolution", "--model.encoder.stride", "4"),
    "pyramid of 3 layers": ("--model.encoder.num_layers", "3", "--model.encoder.subsample", "2"),
    "3 layers": ("--model.encoder.num_layers", "3"),
}
VOCABULARY = 8_000
ROWS, TARGET_TOKENS = 8, 40
TIMES = 3
COLUMNS = ("step_s", "step_core_s", "step_mb", "translation_s", "translation_core_s", "translation_mb", "memory_steps")


def memory(name: str) -> float:
    """Megabytes that the process holds (VmRSS) or has held at the most (VmHWM)."""
    lines = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1000


def cost_of(name: str, function) -> dict[str, float]:
    """Seconds by the clock and of all cores together, the least of a few runs, and megabytes more than are held before.

    Others that use the machine can only make it slower, and hardly change the seconds of the cores.
    """
    # Linux forgets the highest point so far.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    held, seconds = memory("VmRSS"), []
    for _ in range(1 + TIMES):
        began = time.perf_counter(), time.process_time()
        function()
        seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    clock, cores = map(min, zip(*seconds[1:], strict=True))
    return {f"{name}_s": clock, f"{name}_core_s": cores, f"{name}_mb": memory("VmHWM") - held}


def measure(length: int, *settings: str) -> dict[str, float]:
    import keras

    from seq2seq.config.flags import load_config
    from seq2seq.models.build import build_model
    from seq2seq.text.batching import Batch
    from seq2seq.text.tokenizer_training import train_tokenizer
    from seq2seq.training.optimizers import choose_precision
    from seq2seq.training.step import TrainingStep

    config = load_config(None, settings)
    words = [f"w{number}" for number in range(VOCABULARY)]
    tokenizer = train_tokenizer(words, words, kind="word", vocabulary_size=VOCABULARY)
    model = build_model(config, tokenizer, dtype=choose_precision(config.training.precision).policy)
    averaged = build_model(config, tokenizer)
    random = np.random.default_rng(0)
    text = " ".join(random.choice(words, length - 1))
    assert len(averaged.encode_sources([text])[0]) == length
    options = {"beam_size": 5, "min_length": TARGET_TOKENS, "max_length": TARGET_TOKENS}
    found = cost_of("translation", lambda: averaged.generate([text], **options))
    step = TrainingStep(model, averaged, keras.optimizers.Adam(1e-4), clip_norm=1.0, ema=0.0)
    ids = (random.integers(4, VOCABULARY - 4, (ROWS, steps)).astype("int32") for steps in (length, TARGET_TOKENS))
    batch = Batch(*ids, np.arange(ROWS))
    found |= cost_of("step", lambda: float(step([batch], 1e-4).loss))
    return found | {"memory_steps": -(-length // model.encoder.reduction)}


def in_a_process(length: int, settings: tuple[str, ...]) -> dict[str, float]:
    """Each measurement has a process of its own, whose memory nothing else has filled."""
    command = [sys.executable, "-m", "tests.benchmarks.long_sources", "measure", str(length), *settings]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main(*arguments: str) -> None:
    first_flag = next((place for place, text in enumerate(arguments) if text.startswith("--")), len(arguments))
    lengths, settings = [int(text) for text in arguments[:first_flag]] or LENGTHS, arguments[first_flag:]
    print(f"{'source tokens':>13}  {'encoder':<22}" + "".join(f"{name:>20}" for name in COLUMNS), flush=True)
    for length in lengths:
        for name, of_encoder in ENCODERS.items():
            found = in_a_process(length, (*of_encoder, *settings))
            row = "".join(f"{found[name]:>20,.{3 if name.endswith('_s') else 0}f}" for name in COLUMNS)
            print(f"{length:>13,}  {name:<22}{row}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(int(sys.argv[2]), *sys.argv[3:])))
    else:
        main(*sys.argv[1:])
