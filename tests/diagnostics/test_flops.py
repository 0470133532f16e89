"""The arithmetic of a step, by hand and against the products that TensorFlow runs; the rate of the machine."""

import math

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.diagnostics import flops
from seq2seq.diagnostics.flops import (
    Product,
    StepFlops,
    fastest_rate,
    forward_flops,
    large_products,
    step_flops,
    timed_product,
)
from seq2seq.layers import Decoder, Encoder
from seq2seq.layers.context import create_context
from seq2seq.models.seq2seq import Seq2Seq

V, E, H, U = 11, 3, 5, 10  # vocabulary, embedding, units of an encoder's direction, units of the decoder
LENGTHS = [4, 2], [3, 5]
S, T, B, P = 6, 8, 2, 4 * 3 + 2 * 5  # source and target tokens, pairs, places that are looked at


def tiny(context="attention", cell="gru", vocabulary=V, options=None, encoder=None, **changes):
    settings = {"context_inputs": ("state", "readout"), "context": create_context(context, True, **(options or {}))}
    decoder = Decoder(vocabulary, E, U, cell=cell, **settings | changes)
    return Seq2Seq(Encoder(H, cell=cell, **(encoder or {})), decoder)


@pytest.mark.parametrize(
    ("cell", "blocks", "states"),
    [("rnn", 1, 1), ("lstm", 4, 2), ("gru", 3, 1), ("gru_reset_before", 3, 1), ("gru_simplified", 2, 1)],
)
def test_every_cell_by_hand(cell, blocks, states):
    assert step_flops(tiny(cell=cell), *LENGTHS) == StepFlops(
        encoder=6 * S * 2 * (E + H) * blocks * H,
        decoder=6 * (T * (E + U) * blocks * U + B * 2 * H * states * U + T * (U + 2 * H) * E),
        attention=6 * P * (U + 2 * H),
        readout_and_loss=6 * T * E * V,
    )


@pytest.mark.parametrize(
    ("context", "options", "attention"),
    [
        ("last", {}, 0),
        ("projected", {"units": 7}, 6 * B * 10 * 7),
        ("mean", {}, 0),
        ("max", {}, 0),
        ("sum", {}, 0),
        ("attentive", {"units": 7}, 6 * S * (10 * 7 + 7 + 10)),
        ("attention", {"score": "dot"}, 6 * P * (10 + 10)),
        ("attention", {"score": "scaled_dot"}, 6 * P * (10 + 10)),
        ("attention", {"score": "general"}, 6 * (S * 10 * 10 + P * (10 + 10))),
        ("attention", {"score": "local"}, 6 * (S * 10 * 10 + P * (10 + 10) + T * (10 * 10 + 10))),
        ("attention", {"score": "additive", "units": 7}, 6 * (S * 10 * 7 + T * 10 * 7 + P * (7 + 10))),
        ("attention", {"score": "location", "units": 8}, 6 * (T * 10 * 8 + P * 10) + 4 * P * 8),
        (
            "attention",
            {"score": "multi_head", "units": 8, "num_heads": 2},
            6 * (T * 10 * 8 + 2 * S * 10 * 8 + 2 * P * 8 + T * 8 * 10),
        ),
    ],
)
def test_every_context_by_hand(context, options, attention):
    assert step_flops(tiny(context, options=options), *LENGTHS).attention == attention


def test_layers_and_what_they_are_fed_by_hand():
    # The first layer reads embedding, context and the last readout vector; the second reads the first.
    decoder = Decoder(
        V, E, U, num_layers=2, context_inputs=("input", "readout"), input_feeding=True, readout_size=4, cell="rnn"
    )
    encoder = Encoder(H, num_layers=2, cell="rnn")
    assert step_flops(Seq2Seq(encoder, decoder, source_vocabulary_size=9), *LENGTHS) == StepFlops(
        encoder=6 * S * 2 * ((E + H) * H + (2 * H + H) * H),
        decoder=6 * T * ((E + 2 * H + 4 + U) * U + (U + U) * U + (U + 2 * H) * 4),
        attention=6 * P * (U + 2 * H),
        readout_and_loss=6 * T * 4 * V,
    )


def test_attention_between_layers_by_hand():
    decoder = Decoder(V, E, U, num_layers=2, attention_position="between", context_inputs=("state",), cell="rnn")
    found = step_flops(Seq2Seq(Encoder(H, cell="rnn"), decoder), *LENGTHS)
    assert found.decoder == 6 * (T * ((E + U) * U + (U + 2 * H + U) * U) + B * 2 * H * 2 * U + T * U * E)


@pytest.mark.parametrize("copy", ["reuse", "separate"])
def test_copying_by_hand(copy):
    plain, found = (step_flops(tiny(copy=mode), *LENGTHS) for mode in ("none", copy))
    gate, score = 6 * T * (U + 2 * H + E), 6 * (S * 2 * H * U + P * U)
    assert found == plain._replace(
        decoder=plain.decoder + gate, attention=plain.attention + score * (copy == "separate")
    )


def test_an_encoder_that_joins_steps_by_hand():
    """Sources of 4 and 2 tokens are 2 and 1 steps after a stride of 2, and 1 and 1 where the next layer joins two."""
    encoder = Encoder(H, 2, cell="rnn", front_end="convolution", stride=2, kernel_size=3, subsample=2)
    found = step_flops(Seq2Seq(encoder, Decoder(V, E, U, cell="rnn")), *LENGTHS)
    assert found.encoder == 6 * (3 * 3 * E * E + 2 * (3 * (E + H) * H + 2 * (2 * 2 * H + H) * H))
    assert found.attention == 6 * (1 * 3 + 1 * 5) * (U + 2 * H)
    pooled = Seq2Seq(Encoder(H, cell="rnn", front_end="max", stride=3), Decoder(V, E, U, cell="rnn"))
    assert step_flops(pooled, *LENGTHS).encoder == 6 * 2 * 3 * (E + H) * H


def test_copying_from_windows_by_hand():
    encoder, options = Encoder(H, front_end="mean", stride=2), {"copy": "reuse", "copy_window": 2}
    found = step_flops(Seq2Seq(encoder, Decoder(V, E, U, **options)), *LENGTHS)
    assert found.attention == 6 * ((2 * 3 + 1 * 5) * (U + 2 * H) + S * E * U + P * U)


def test_forward_flops_are_a_third():
    forward, both = forward_flops(tiny(), *LENGTHS), step_flops(tiny(), *LENGTHS)
    assert [3 * part for part in forward] == list(both)


def test_padding_counts_nothing():
    model = tiny()
    together = step_flops(model, *LENGTHS)
    apart = np.array([step_flops(model, [source], [target]) for source, target in zip(*LENGTHS, strict=True)])
    assert together == tuple(apart.sum(axis=0))


def executed_flops(model, source_ids, target_ids):
    """Count the operations in the matrix products that TensorFlow runs for loss and gradients, one after the other."""
    from tensorflow.python.framework import op_callbacks

    counted = []

    def note(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        named = dict(zip(attrs[::2], attrs[1::2], strict=True))
        # A product of one row of ones is a sum.
        if op_type == "MatMul" and outputs[0].shape[0] > 1:
            inner = inputs[0].shape[0 if named["transpose_a"] else 1]
            counted.append(2 * math.prod(outputs[0].shape) * inner)
        elif op_type in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"):
            # Forwards, and for the gradient of each side, every output meets every number that its window reads.
            kernel = outputs[0] if op_type == "Conv2DBackpropFilter" else inputs[1]
            windows = outputs[0] if op_type == "Conv2D" else inputs[2]
            counted.append(2 * math.prod(windows.shape) * math.prod(kernel.shape[:-1]))
        elif op_type in ("BatchMatMul", "BatchMatMulV2"):
            inner = inputs[0].shape[-2 if named["adj_x"] else -1]
            counted.append(2 * math.prod(outputs[0].shape) * inner)
        elif op_type == "Einsum":
            axes = named["equation"].split("->")[0].split(",")
            sizes = {axis: size for names, tensor in zip(axes, inputs, strict=True)
                     for axis, size in zip(names, tensor.shape, strict=True)}  # fmt: skip
            counted.append(2 * math.prod(sizes.values()))

    def run():
        with tf.GradientTape() as tape:
            loss, _ = model.loss_and_tokens({"source_ids": source_ids, "target_ids": target_ids}, training=True)
        tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    run()  # What is traced is traced now, and only what runs is counted.
    op_callbacks.add_op_callback(note)
    try:
        run()
    finally:
        op_callbacks.remove_op_callback(note)
    return sum(counted)


@pytest.mark.parametrize(
    ("context", "cell", "options", "changes"),
    [
        ("attention", "gru", {"score": "dot"}, {"num_layers": 2, "attention_position": "between"}),
        ("attention", "lstm", {"score": "additive", "units": 7}, {}),
        ("attention", "rnn", {"score": "multi_head", "units": 8, "num_heads": 2}, {}),
        ("attention", "gru_simplified", {"score": "location", "units": 8}, {"context_inputs": ("readout",)}),
        ("attention", "gru", {"score": "local"}, {}),
        ("attentive", "gru", {"units": 7}, {"context_inputs": ("state", "input", "readout")}),
        ("projected", "gru", {}, {"context_inputs": ("input",)}),
        (
            "attention",
            "gru",
            {"score": "dot"},
            {"encoder": {"front_end": "convolution", "stride": 2, "kernel_size": 3}, "context_inputs": ("readout",)},
        ),
    ],
)
def test_as_many_as_tensorflow_runs(context, cell, options, changes):
    # No padding, and as many target tokens as the loss fills up to, so that nothing runs in vain.
    model = tiny(context, cell, options=options, **changes)
    source_ids, target_ids = tf.fill([64, 3], 4), tf.fill([64, 8], 5)
    expected = sum(step_flops(model, [3] * 64, [8] * 64))
    # The gradient of the output bias is a column of that of the output matrix.
    expected += 2 * 64 * 8 * V
    if options.get("score") == "location":
        # Nobody needs the gradient of the sinusoids; a graph leaves it out, and only this eager run makes it.
        expected += 2 * 64 * 3 * 8 * options["units"]
    assert executed_flops(model, source_ids, target_ids) == expected


def test_rate_of_the_machine(monkeypatch):
    assert Product(3, 5, 7).flops == 2 * 3 * 5 * 7
    slow, fast = Product(1000, 1000, 500), Product(1000, 1000, 1000)
    rate, product = fastest_rate({slow: [0.5, 0.1, 0.001], fast: [0.1, 9.0, 0.05]})
    assert (rate, product) == (pytest.approx(2 * 1000**3 / 0.1 / 1e9), fast)
    assert large_products(tiny(), 100) == [
        Product(100, E, 3 * H), Product(100, E, 3 * U), Product(100, E, V)
    ]  # fmt: skip
    run = timed_product(Product(4, 5, 6), "bfloat16")
    assert min(run(), run()) > 0
    run = timed_product(Product(4, 5, 6), "float32", workers=4)
    clock = iter([1.0, 3.0])
    monkeypatch.setattr(flops.time, "perf_counter", lambda: next(clock))
    assert run() == 0.5
