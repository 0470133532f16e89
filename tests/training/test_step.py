"""One training step against Adam, clipping and moving average written out in NumPy; and the graph that it becomes."""

import math
import pathlib
from collections import Counter, defaultdict

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.config.recipe import merge
from seq2seq.layers import recurrent
from seq2seq.models.build import build_model
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.text.ids import PAD_ID
from seq2seq.training import step as step_module
from seq2seq.training.data import Texts
from seq2seq.training.optimizers import decayed_variables
from seq2seq.training.step import TrainingStep, choose_workers, create_step, cut_rows
from seq2seq.training.trainer import Trainer

RECIPE = pathlib.Path(__file__).parents[2] / "data" / "en-fr" / "recipe.yaml"
# What a graph holds does not depend on sizes, and large random matrices take their time.
SMALL = {"model.embedding_size": "8", "model.encoder.units": "4", "model.decoder.units": "8"}
EPSILON = 1e-4


class NumpyAdam:
    """Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1 with epsilon as at the end of their section 2, in float64."""

    def __init__(self, shapes):
        self.first = [np.zeros(shape) for shape in shapes]
        self.second = [np.zeros(shape) for shape in shapes]
        self.step = 0

    def update(self, gradients, rate):
        self.step += 1
        rate = rate * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        changes = []
        for place, gradient in enumerate(gradients):
            self.first[place] = 0.9 * self.first[place] + 0.1 * gradient
            self.second[place] = 0.999 * self.second[place] + 0.001 * gradient**2
            changes.append(-rate * self.first[place] / (np.sqrt(self.second[place]) + EPSILON))
        return changes


def plain_gradients(model, source_ids, target_ids, smoothing):
    """Loss a token and its gradients by ordinary ops and autodiff on the model's logits."""
    with tf.GradientTape() as tape:
        logits = model({"source_ids": source_ids, "target_ids": target_ids}, training=True)
        labels = tf.one_hot(target_ids, logits.shape[-1]) * (1 - smoothing) + smoothing / logits.shape[-1]
        losses = tf.nn.softmax_cross_entropy_with_logits(labels, logits)
        weights = tf.cast(target_ids != PAD_ID, tf.float32)
        loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return float(loss), [np.array(tf.convert_to_tensor(gradient), np.float64) for gradient in gradients]


@pytest.mark.parametrize(("clip_norm", "ema", "l2"), [(0.25, 0.4, 0.0), (0.0, 0.0, 0.01)])
def test_equals_numpy(make_step, toy_batches, clip_norm, ema, l2):
    settings = {"model__label_smoothing": 0.1, "model__tie_embeddings": "output"}
    adam = keras.optimizers.Adam(epsilon=EPSILON)
    step = make_step(optimizer=adam, clip_norm=clip_norm, ema=ema, l2=l2, **settings)
    decayed = {id(variable) for variable in decayed_variables(step.model)}
    # The same weights where every recurrent step is the cell's equation under plain autodiff.
    twin = make_step(model__implementation="raw", **settings).model
    weights = [variable.numpy().astype(np.float64) for variable in step.model.trainable_variables]
    averages = [weight.copy() for weight in weights]
    oracle = NumpyAdam([weight.shape for weight in weights])
    for updates, (batch, rate) in enumerate(zip(toy_batches, (0.01, 0.03, 0.02), strict=True)):
        source_ids, target_ids, _ = batch
        for variable, weight in zip(twin.trainable_variables, weights, strict=True):
            variable.assign(weight)
        loss, gradients = plain_gradients(twin, source_ids, target_ids, smoothing=0.1)
        for gradient, variable, weight in zip(gradients, step.model.trainable_variables, weights, strict=True):
            gradient += 2 * l2 * weight * (id(variable) in decayed)
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients))
        if clip_norm:
            assert norm > 1.5 * clip_norm
            gradients = [gradient * clip_norm / norm for gradient in gradients]
        for weight, change in zip(weights, oracle.update(gradients, rate), strict=True):
            weight += change
        # The moving average starts at the first weights, and follows faster while it is young.
        decay = min(ema, (1 + updates) / (10 + updates))
        for average, weight in zip(averages, weights, strict=True):
            average += (1 - decay) * (weight - average)

        result = step([batch], rate)
        assert float(result.tokens) == np.sum(target_ids != PAD_ID)
        np.testing.assert_allclose(result.loss / result.tokens, loss, rtol=1e-5)
        np.testing.assert_allclose(result.gradient_norm, norm, rtol=1e-4)
        for variable, weight in zip(step.model.trainable_variables, weights, strict=True):
            np.testing.assert_allclose(variable, weight, atol=2e-5, err_msg=variable.path)
        if ema:
            for variable, average in zip(step.averaged.trainable_variables, averages, strict=True):
                np.testing.assert_allclose(variable, average, atol=2e-5, err_msg=variable.path)
    if not ema:
        step.synchronise()
        for variable, weight in zip(step.averaged.trainable_variables, weights, strict=True):
            np.testing.assert_allclose(variable, weight, atol=2e-5)


@pytest.fixture(scope="module")
def poisoned(make_step):
    """Make a step whose loss, in batches of `rows` rows, can be scaled, and whose gradient can be made infinite."""
    adam = keras.optimizers.Adam(epsilon=EPSILON)
    step = make_step(optimizer=adam, clip_norm=0.25, ema=0.4, model__label_smoothing=0.1)
    step.factor, step.under_root, step.rows = tf.Variable(1.0), tf.Variable(1.0), tf.Variable(0)
    plain = step.model.loss_and_tokens

    def loss_and_tokens(inputs, training):
        loss, tokens = plain(inputs, training=training)
        # The derivative of the root is infinite at 0, and that of the sum below it is 0.
        nothing = 0.0 * tf.reduce_sum(step.model.embedding.embeddings)
        poisoned = tf.shape(inputs["source_ids"])[0] == step.rows
        factor, under_root = (tf.where(poisoned, number, 1.0) for number in (step.factor, step.under_root))
        return factor * loss + tf.sqrt(under_root + nothing) - 1.0, tokens

    step.model.loss_and_tokens = loss_and_tokens
    return step


def numbers(step):
    return [*step.model.variables, *step.optimizer.variables, *step.averaged.trainable_variables]


@pytest.fixture
def fresh(poisoned):
    """Reset the step, since compiling it takes longer than all that it does here."""
    if not hasattr(poisoned, "start"):
        poisoned.start = [variable.numpy() for variable in numbers(poisoned)]

    def reset():
        for variable, value in zip(numbers(poisoned), poisoned.start, strict=True):
            variable.assign(value)
        poisoned.rows.assign(0)
        return poisoned

    return reset


def test_padding_changes_no_loss(fresh, toy_batches):
    step = fresh()
    batch = toy_batches[0]
    whole = step([batch], 0.0)
    wider = batch._replace(
        source_ids=np.pad(batch.source_ids, [(0, 0), (0, 5)]), target_ids=np.pad(batch.target_ids, [(0, 0), (0, 8)])
    )
    np.testing.assert_allclose(step([wider], 0.0), whole, rtol=1e-5)


def parts_of(batch, *cuts):
    """Cut a batch into parts of unlike size, each as narrow as its own longest rows."""
    parts = []
    for first, last in zip((0, *cuts), (*cuts, len(batch.indices)), strict=True):
        rows = [ids[first:last] for ids in batch[:2]]
        ids = (ids[:, : (ids != PAD_ID).sum(axis=1).max()] for ids in rows)
        parts.append(Batch(*ids, batch.indices[first:last]))
    return parts


class TestNotFinite:
    @pytest.mark.parametrize("in_parts", [False, True])
    @pytest.mark.parametrize(
        ("factor", "under_root"),
        [(math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1e30, 1.0)],
        ids=["loss nan", "loss infinite", "gradient nan", "gradient too long"],
    )
    def test_changes_no_number_then_or_later(self, fresh, toy_batches, factor, under_root, in_parts):
        first, bad, last = toy_batches
        step = fresh()
        step([first], 0.01)
        step([last], 0.02)
        right = [variable.numpy() for variable in numbers(step)]

        step = fresh()
        step([first], 0.01)
        before = [variable.numpy() for variable in numbers(step)]
        step.factor.assign(factor)
        step.under_root.assign(under_root)
        # The good part that completes an update cannot save it.
        parts = parts_of(bad, 3) if in_parts else [bad]
        step.rows.assign(len(parts[0].indices))
        result = step(parts, 0.5)
        assert not result.is_finite
        assert math.isfinite(result.loss) == math.isfinite(factor)
        for variable, value in zip(numbers(step), before, strict=True):
            np.testing.assert_array_equal(variable, value, err_msg=variable.path)
        step.rows.assign(0)
        assert step([last], 0.02).is_finite
        for variable, value in zip(numbers(step), right, strict=True):
            np.testing.assert_array_equal(variable, value, err_msg=variable.path)


class TestSeveralBatches:
    def test_equal_the_whole_batch(self, fresh, toy_batches):
        # A part of one row and one of twelve: their tokens differ, and so would the mean of their means.
        step = fresh()
        right = [step([batch], 0.01) for batch in toy_batches]
        whole = [variable.numpy() for variable in numbers(step)]
        step = fresh()
        for batch, expected in zip(toy_batches, right, strict=True):
            result = step(parts_of(batch, 1, 4), 0.01)
            assert float(result.tokens) == float(expected.tokens)
            np.testing.assert_allclose([float(x) for x in result], [float(x) for x in expected], rtol=1e-5)
        assert int(step.optimizer.iterations) == 3
        for variable, value in zip(numbers(step), whole, strict=True):
            np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6, err_msg=variable.path)


class TestWorkers:
    """Parts of a batch that are computed at the same time."""

    @pytest.fixture
    def machine(self, monkeypatch):
        """Set the number of cores and whether TensorFlow runs; return the threads that operations get."""

        def make(cores, runs=False, gpus=()):
            threads = [0]

            def set_threads(count):
                if runs:
                    raise RuntimeError("Intra op parallelism cannot be modified after initialization.")
                threads[0] = count

            monkeypatch.setattr(step_module, "count_cores", lambda: cores)
            monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus))
            monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", set_threads)
            return threads

        return make

    @pytest.mark.parametrize(
        ("cores", "asked", "parts", "threads"),
        [(1, 0, 1, 1), (3, 0, 3, 1), (18, 0, 4, 4), (18, 2, 2, 9), (2, 5, 5, 1), (2, 1, 1, 2)],
    )
    def test_cores_are_shared_out(self, machine, cores, asked, parts, threads):
        given = machine(cores)
        assert choose_workers(asked) == choose_workers(asked) == parts
        assert given == [threads]

    def test_whole_batches_on_a_gpu_or_where_tensorflow_runs(self, machine):
        for situation in ({"runs": True}, {"gpus": ["GPU:0"]}):
            given = machine(2, **situation)
            assert (choose_workers(0), given) == (1, [0])
            assert choose_workers(2) == 2

    @pytest.mark.parametrize("rows", [1, 4, 5])
    def test_every_row_is_in_one_part(self, rows):
        ids, mask = np.arange(1, rows + 1)[:, None], np.ones((rows, 2), bool)
        parts = cut_rows([tf.constant(ids), tf.constant(mask)], 2)
        assert {part[0].shape[0] for part in parts} == {part[1].shape[0] for part in parts} == {(rows + 1) // 2}
        found = np.concatenate([part[0].numpy().ravel() for part in parts])
        assert sorted(found[found > 0]) == ids.ravel().tolist()
        assert sum(part[1].numpy().sum() for part in parts) == mask.sum()

    @pytest.mark.parametrize(
        "changes",
        [
            {"model__decoder__num_layers": 2, "model__decoder__attention_position": "between", "model__copy": "reuse"},
            {"model__context": "max", "model__encoder__cell": "lstm", "model__decoder__cell": "lstm"},
        ],
    )
    def test_equal_the_whole_batch(self, make_step, toy_batches, changes):
        # Plain descent: Adam makes much of gradients that are almost zero.
        whole, cut = (
            make_step(optimizer=keras.optimizers.SGD(), workers=count, model__label_smoothing=0.1, **changes)
            for count in (1, 3)
        )
        # Rows that three divides, rows that it does not, and one row, which leaves two parts without any.
        for rows in (15, 16, 1):
            batch = Batch(*(part[:rows] for part in toy_batches[0]))
            expected, found = whole([batch], 0.5), cut([batch], 0.5)
            assert float(found.tokens) == float(expected.tokens)
            np.testing.assert_allclose(list(map(float, found)), list(map(float, expected)), rtol=1e-5)
            for value, right in zip(trained_numbers(cut), trained_numbers(whole), strict=True):
                np.testing.assert_allclose(value, right, atol=1e-5)

    def test_dropout_is_reproducible(self, make_step, toy_batches):
        def trained():
            step = make_step(workers=2, model__embedding_dropout=0.5, model__source_word_dropout=0.3)
            return [float(step([batch], 0.1).loss) for batch in toy_batches], trained_numbers(step)

        (losses, values), (again, same) = trained(), trained()
        assert losses == again
        for value, other in zip(values, same, strict=True):
            np.testing.assert_array_equal(value, other)

    def test_resumed_run_keeps_them(self, toy_config, toy_tokenizer, tmp_path):
        corpus = EncodedCorpus.from_lists([[5, 6, 7, 3]] * 20, [[5, 6, 7, 3]] * 20)
        config = toy_config(run__folder=str(tmp_path), run__name="run", training__epochs=1, training__dev_sentences=1)
        config.run.path.mkdir()
        batches, dev = Batches(corpus, batch_tokens=512), Texts(["cat"], ["kato"])
        here, there = (Trainer(config, create_step(config, toy_tokenizer, count), batches, dev) for count in (3, 1))
        here.run()
        there.resume()
        assert there.step.workers == 3


def trained_numbers(step):
    return [variable.numpy() for variable in (*step.model.trainable_variables, *step.optimizer.variables)]


def operations(graph):
    """How often each operation runs in a graph, the bodies of the functions that it calls counted at every call."""
    definition = graph.as_graph_def()
    functions = {function.signature.name: function.node_def for function in definition.library.function}

    def count(nodes):
        total = Counter()
        for node in nodes:
            total[node.op] += 1
            for attribute in node.attr.values():
                names = [attribute.func.name, *(function.name for function in attribute.list.func)]
                for name in filter(None, names):
                    total += count(functions[name])
        return total

    return count(definition.node)


class TestGraph:
    """Where there is a GPU every recurrence is one call of cuDNN; tracing it needs none."""

    @pytest.fixture
    def counted(self, toy_tokenizer, monkeypatch):
        def trace(gpu: bool, **flags):
            monkeypatch.setattr(recurrent, "gpu_is_available", lambda: gpu)
            flags = {f"model.{key.replace('__', '.')}": value for key, value in flags.items()}
            config = merge(RECIPE, SMALL | flags)
            models = build_model(config, toy_tokenizer), build_model(config, toy_tokenizer)
            step = TrainingStep(*models, keras.optimizers.Adam(), clip_norm=1.0, ema=0.99)
            return config.model, operations(step.trace())

        return trace

    @pytest.mark.parametrize(
        "flags",
        [
            {},
            {"decoder__num_layers": "1", "decoder__attention_position": "after"},
            {"encoder__num_layers": "2", "decoder__num_layers": "2", "decoder__attention_position": "between"},
        ],
        ids=["default", "after", "between"],
    )
    def test_holds_one_kernel_a_layer_and_direction_and_no_loop(self, counted, flags):
        model, found = counted(gpu=True, **flags)
        kernels = model.encoder.num_layers * (1 + model.encoder.bidirectional) + model.decoder.num_layers
        assert found["CudnnRNNV3"] == found["CudnnRNNBackpropV3"] == kernels
        assert loops(found) == 1  # over the chunks of the loss

    def test_holds_loops_and_no_kernel_without_a_gpu(self, counted):
        _, found = counted(gpu=False, decoder__num_layers="1", decoder__attention_position="after")
        assert found["CudnnRNNV3"] == 0
        # Forwards and backwards, for each of the three layers: the count sees loops where there are some.
        assert loops(found) == 6 + 1

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_of_mixed_precision_keeps_variables_scores_normalisers_and_losses_in_float32(self, toy_tokenizer, dtype):
        config = merge(RECIPE, SMALL)
        models = build_model(config, toy_tokenizer, f"mixed_{dtype}"), build_model(config, toy_tokenizer)
        graph = TrainingStep(*models, keras.optimizers.Adam(), clip_norm=1.0, ema=0.99).trace()
        definition = graph.as_graph_def()
        types = defaultdict(set)
        for node in (*definition.node, *(node for one in definition.library.function for node in one.node_def)):
            for name in {"T", "dtype"} & set(node.attr):
                types[node.op].add(node.attr[name].type)
        assert tf.as_dtype(dtype).as_datatype_enum in types["MatMul"]
        float32 = tf.float32.as_datatype_enum
        for operation in ("Softmax", "Exp", "Log", "Sqrt", "L2Loss"):
            assert types[operation] == {float32}, operation
        integers = {tf.int32.as_datatype_enum, tf.int64.as_datatype_enum, tf.uint32.as_datatype_enum}
        for operation in ("ReadVariableOp", "AssignVariableOp"):
            assert types[operation] - integers == {float32}, operation
        softmaxes = [operation for operation in graph.get_operations() if operation.type == "Softmax"]
        assert softmaxes
        for operation in softmaxes:
            assert {product.outputs[0].dtype for product in products_behind(operation)} == {tf.float32}


def loops(found):
    return sum(count for name, count in found.items() if "While" in name)


def products_behind(operation):
    """Find the nearest products that an operation's inputs come from."""
    if operation.type in ("Einsum", "MatMul", "BatchMatMulV2"):
        return [operation]
    return [product for value in operation.inputs for product in products_behind(value.op)]
