"""The layers' equations once more, as plain NumPy loops in float64, written from the papers.

Nothing here shares code with the package: gates are computed one by one from their own blocks, rows and steps are
visited one by one, and a padded step is simply not visited.
"""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(scores):
    exponentials = np.exp(scores - np.max(scores))
    return exponentials / exponentials.sum()


def valid_steps(mask, row):
    return [step for step in range(mask.shape[1]) if mask[row, step]]


def gru_step(x, h, kernel, recurrent_kernel, bias):
    """Cho et al. 2014, with the reset gate after the recurrent product; Keras' block order [z | r | n]."""
    units = len(h)
    update, reset, candidate = (slice(gate * units, (gate + 1) * units) for gate in range(3))

    def pre_activations(gate):
        return x @ kernel[:, gate] + bias[0, gate], h @ recurrent_kernel[:, gate] + bias[1, gate]

    z = sigmoid(sum(pre_activations(update)))
    r = sigmoid(sum(pre_activations(reset)))
    from_input, from_state = pre_activations(candidate)
    n = np.tanh(from_input + r * from_state)
    return z * h + (1.0 - z) * n


def gru(inputs, mask, initial_state, weights, reverse=False):
    """Outputs, zero at padded steps, and final states; `weights` are kernel, recurrent kernel and bias."""
    inputs, weights = np.asarray(inputs, "float64"), [np.asarray(weight, "float64") for weight in weights]
    units = weights[1].shape[0]
    rows, steps = inputs.shape[:2]
    mask = np.ones((rows, steps), bool) if mask is None else mask
    final = np.zeros((rows, units)) if initial_state is None else np.array(initial_state, "float64")
    outputs = np.zeros((rows, steps, units))
    for row in range(rows):
        order = valid_steps(mask, row)
        for step in reversed(order) if reverse else order:
            final[row] = gru_step(inputs[row, step], final[row], *weights)
            outputs[row, step] = final[row]
    return outputs, final


def cudnn_gru(inputs, initial_state, params, lengths, units):
    """What cuDNN documents for CUDNN_GRU: gates [r | z | n], each block multiplies from the left, one flat vector."""
    features, params = inputs.shape[-1], np.asarray(params, "float64")
    shapes = [(units, features)] * 3 + [(units, units)] * 3 + [(units,)] * 6
    sizes = [int(np.prod(shape)) for shape in shapes]
    assert params.shape == (sum(sizes),)
    blocks = [part.reshape(shape) for part, shape in zip(np.split(params, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    (w_r, w_z, w_n), (u_r, u_z, u_n) = blocks[:3], blocks[3:6]
    (b_wr, b_wz, b_wn), (b_ur, b_uz, b_un) = blocks[6:9], blocks[9:]
    outputs = np.zeros((*inputs.shape[:2], units))
    final = np.array(initial_state, "float64")
    for row, row_length in enumerate(lengths):
        assert row_length >= 1, "cuDNN refuses empty rows"
        for step in range(row_length):
            x, h = inputs[row, step], final[row]
            r = sigmoid(w_r @ x + u_r @ h + b_wr + b_ur)
            z = sigmoid(w_z @ x + u_z @ h + b_wz + b_uz)
            n = np.tanh(w_n @ x + b_wn + r * (u_n @ h + b_un))
            final[row] = (1.0 - z) * n + z * h
            outputs[row, step] = final[row]
    return outputs, final


def encoder(inputs, mask, layers, residual=False, input_masks=None):
    """`layers` holds one list of weights a direction for each layer; `input_masks`, dropout factors of its inputs."""
    outputs = np.asarray(inputs, "float64")
    for index, directions in enumerate(layers):
        layer_inputs = outputs if input_masks is None else outputs * input_masks[index]
        read = [
            gru(layer_inputs, mask, None, weights, reverse=direction == 1)[0]
            for direction, weights in enumerate(directions)
        ]
        outputs = np.concatenate(read, axis=-1)
        if residual and index > 0:
            outputs = outputs + layer_inputs
    return outputs


def masked_pool(pooling, memory, mask):
    """`mean`, `max`, `sum`, `last` over the valid steps; zeros where there are none (but `last`: the first step)."""
    rows = []
    for row in range(len(memory)):
        valid = [memory[row, step] for step in valid_steps(mask, row)]
        if not valid:
            rows.append(memory[row, 0] if pooling == "last" else np.zeros(memory.shape[-1]))
        elif pooling == "last":
            rows.append(valid[-1])
        else:
            rows.append({"mean": np.mean, "max": np.max, "sum": np.sum}[pooling](valid, axis=0))
    return np.stack(rows)


def both_ends(memory, mask):
    """The last step of the half that reads forwards, and the first of the half that reads backwards."""
    half = memory.shape[-1] // 2
    return np.concatenate([masked_pool("last", memory, mask)[:, :half], memory[:, 0, half:]], axis=-1)


def attentive(memory, mask, kernel, bias, vector):
    """Lin et al. 2017: a learned query attends once."""
    rows = []
    for row in range(len(memory)):
        steps = valid_steps(mask, row)
        total = np.zeros(memory.shape[-1])
        if steps:
            scores = np.array([vector[:, 0] @ np.tanh(kernel.T @ memory[row, step] + bias) for step in steps])
            for weight, step in zip(softmax(scores), steps, strict=True):
                total += weight * memory[row, step]
        rows.append(total)
    return np.stack(rows)


def dot(query, place, step):
    return query @ place


def scaled_dot(query, place, step):
    return query @ place / np.sqrt(len(query))


def general(kernel):
    """Luong et al. 2015; `kernel` is `(memory_units, query_units)`."""
    return lambda query, place, step: place @ kernel @ query


def additive(query_kernel, memory_kernel, vector):
    """Bahdanau et al. 2015."""
    return lambda query, place, step: vector[:, 0] @ np.tanh(query_kernel.T @ query + memory_kernel.T @ place)


def sinusoid(step, units):
    """Vaswani et al. 2017: first all sines, then all cosines, of wave lengths 2 pi to 10,000 * 2 pi."""
    angles = [step / 10_000.0 ** (2 * pair / units) for pair in range(units // 2)]
    return np.array([np.sin(angle) for angle in angles] + [np.cos(angle) for angle in angles])


def location(kernel):
    return lambda query, place, step: (kernel.T @ query) @ sinusoid(step, kernel.shape[1])


def scores(score, memory, queries):
    """`score(query, place, step)` at every place, masked or not."""
    batch, steps = memory.shape[:2]
    result = np.zeros((batch, queries.shape[1], steps))
    for row in range(batch):
        for number in range(queries.shape[1]):
            for step in range(steps):
                result[row, number, step] = score(queries[row, number], memory[row, step], step)
    return result


def window_factor(query, step, number_of_valid, kernel, vector, window):
    """Luong et al. 2015, local-p, with the centre inside the sentence."""
    centre = max(number_of_valid - 1, 0) * sigmoid(vector[:, 0] @ np.tanh(kernel.T @ query))
    if abs(step - centre) > window:
        return 0.0
    deviation = window / 2
    return np.exp(-((step - centre) ** 2) / (2 * deviation**2))


def attend(score, memory, mask, query, values=None, factor=None):
    """One query, one sentence: the context and the weights over all places."""
    values = memory if values is None else values
    weights = np.zeros(len(memory))
    steps = [step for step in range(len(memory)) if mask[step]]
    if steps:
        weights[steps] = softmax(np.array([score(query, memory[step], step) for step in steps]))
    if factor is not None:
        weights = weights * np.array([factor(query, step, len(steps)) for step in range(len(memory))])
    context = np.zeros(values.shape[-1])
    for step in steps:
        context += weights[step] * values[step]
    return context, weights


def multi_head(memory, mask, query, query_kernel, key_kernel, value_kernel, output_kernel):
    """Vaswani et al. 2017; kernels are `(size, heads, head_units)`; the weights are the mean over the heads."""
    contexts, all_weights = [], []
    for head in range(query_kernel.shape[1]):
        keys, values = memory @ key_kernel[:, head], memory @ value_kernel[:, head]
        context, weights = attend(scaled_dot, keys, mask, query @ query_kernel[:, head], values=values)
        contexts.append(context)
        all_weights.append(weights)
    return np.concatenate(contexts) @ output_kernel, np.mean(all_weights, axis=0)


def decoder(parts, token_ids, memory, mask):
    """One token after another, one sentence after another.

    `parts` has the weights and choices by name: embeddings, bridges (kernel and bias of each layer, or none), layers
    (weights of each), readout (kernel, bias), output (matrix, bias), summary and read (functions of a sentence),
    feeds, attention, attend, input_feeding, residual, and dropout factors `embedding`, `outputs`, `features`.
    Returns logits, and the weights of each step where there are any.
    """
    all_logits, all_weights = [], []
    for row in range(len(token_ids)):
        logits, weights = _decode_sentence(parts, token_ids[row], memory[row : row + 1], mask[row : row + 1], row)
        all_logits.append(logits)
        all_weights.append(weights)
    return np.array(all_logits), np.array(all_weights)


def _decode_sentence(parts, token_ids, memory, mask, row):
    summary = parts["summary"](memory, mask)[0]
    states = [np.zeros(len(weights[1])) for weights in parts["layers"]]
    if "state" in parts["feeds"]:
        states = [np.tanh(summary @ kernel + bias) for kernel, bias in parts["bridges"]]
    fed = np.zeros(len(parts["readout"][1]))
    all_logits, all_weights = [], []
    for step, token in enumerate(token_ids):
        context, weights = None, None
        inputs = [parts["embeddings"][token] * parts["dropout"]["embedding"][row]]
        if parts["input_feeding"]:
            inputs.append(fed)
        if "input" in parts["feeds"]:
            context, weights = parts["read"](memory, mask, states[-1])
            inputs.append(context)
        outputs = np.concatenate(inputs)
        for index, layer_weights in enumerate(parts["layers"]):
            layer_inputs = outputs
            if index == 1 and parts["attend"] == "between":
                context, weights = parts["read"](memory, mask, outputs)
                layer_inputs = np.concatenate([outputs, context])
            states[index] = gru_step(layer_inputs, states[index], *layer_weights)
            outputs = states[index] + (outputs if parts["residual"] and index > 0 else 0.0)
            outputs = outputs * parts["dropout"]["outputs"][index][row]
        if "readout" in parts["feeds"]:
            if context is None:
                context, weights = parts["read"](memory, mask, outputs)
            outputs = np.concatenate([outputs, context])
        kernel, bias = parts["readout"]
        fed = np.tanh(outputs @ kernel + bias)
        matrix, output_bias = parts["output"]
        all_logits.append(matrix @ (fed * parts["dropout"]["features"][row, step]) + output_bias)
        all_weights.append(weights)
    return all_logits, all_weights
