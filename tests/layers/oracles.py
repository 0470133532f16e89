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


def in_blocks(number, *arrays):
    """Each weight cut into the blocks of its gates."""
    return [np.split(array, number, axis=-1) for array in arrays]


def mixed(z, h, n, update_gate):
    return {"keep": z * h + (1.0 - z) * n, "write": (1.0 - z) * h + z * n}[update_gate]


def rnn_step(x, h, kernel, recurrent_kernel, bias):
    """Elman 1990."""
    return {"state": np.tanh(x @ kernel + h @ recurrent_kernel + bias)}


def lstm_step(x, h, c, kernel, recurrent_kernel, bias):
    """Hochreiter and Schmidhuber 1997 with a forget gate; Keras' block order [i | f | g | o]."""
    (w_i, w_f, w_g, w_o), (u_i, u_f, u_g, u_o), (b_i, b_f, b_g, b_o) = in_blocks(4, kernel, recurrent_kernel, bias)
    i = sigmoid(x @ w_i + h @ u_i + b_i)
    f = sigmoid(x @ w_f + h @ u_f + b_f)
    o = sigmoid(x @ w_o + h @ u_o + b_o)
    g = np.tanh(x @ w_g + h @ u_g + b_g)
    new_c = f * c + i * g
    new_h = o * np.tanh(new_c)
    return {"state": new_h, "cell_state": new_c, "input_gate": i, "forget_gate": f, "candidate": g, "output_gate": o}


def gru_step(x, h, kernel, recurrent_kernel, bias, update_gate="keep"):
    """Cho et al. 2014, with the reset gate after the recurrent product; Keras' block order [z | r | n]."""
    (w_z, w_r, w_n), (u_z, u_r, u_n) = in_blocks(3, kernel, recurrent_kernel)
    (b_z, b_r, b_n), (c_z, c_r, c_n) = in_blocks(3, *bias)
    z = sigmoid(x @ w_z + b_z + h @ u_z + c_z)
    r = sigmoid(x @ w_r + b_r + h @ u_r + c_r)
    from_state = h @ u_n + c_n
    n = np.tanh(x @ w_n + b_n + r * from_state)
    new_h = mixed(z, h, n, update_gate)
    return {"state": new_h, "update": z, "reset": r, "candidate": n, "recurrent_candidate": from_state}


def gru_reset_before_step(x, h, kernel, recurrent_kernel, bias, update_gate="keep"):
    """Cho et al. 2014, with the reset gate on the state itself; Keras' block order [z | r | n]."""
    (w_z, w_r, w_n), (u_z, u_r, u_n), (b_z, b_r, b_n) = in_blocks(3, kernel, recurrent_kernel, bias)
    z = sigmoid(x @ w_z + h @ u_z + b_z)
    r = sigmoid(x @ w_r + h @ u_r + b_r)
    from_state = (r * h) @ u_n
    n = np.tanh(x @ w_n + from_state + b_n)
    new_h = mixed(z, h, n, update_gate)
    return {"state": new_h, "update": z, "reset": r, "candidate": n, "recurrent_candidate": from_state}


def gru_simplified_step(x, h, kernel, recurrent_kernel, bias, update_gate="keep"):
    """Compute a GRU without the reset gate; blocks [z | n]."""
    (w_z, w_n), (u_z, u_n), (b_z, b_n) = in_blocks(2, kernel, recurrent_kernel, bias)
    z = sigmoid(x @ w_z + h @ u_z + b_z)
    n = np.tanh(x @ w_n + h @ u_n + b_n)
    return {"state": mixed(z, h, n, update_gate), "update": z, "candidate": n}


STEPS = {
    "rnn": rnn_step,
    "lstm": lstm_step,
    "gru": gru_step,
    "gru_reset_before": gru_reset_before_step,
    "gru_simplified": gru_simplified_step,
}


def cell_step(cell, x, states, weights, update_gate="keep"):
    """Everything that one step of one row computes, by name; `states` are h and, for an LSTM, c."""
    choice = {"update_gate": update_gate} if cell.startswith("gru") else {}
    return STEPS[cell](x, *states, *weights, **choice)


def number_of_states(cell):
    return 2 if cell == "lstm" else 1


def states_of(values):
    return [values[name] for name in ("state", "cell_state") if name in values]


def recurrent(cell, inputs, mask, initial_states, weights, reverse=False, update_gate="keep"):
    """Return outputs, zero at padded steps, and final states; `weights` are kernel, recurrent kernel and bias."""
    inputs, weights = np.asarray(inputs, "float64"), [np.asarray(weight, "float64") for weight in weights]
    units = weights[1].shape[0]
    rows, steps = inputs.shape[:2]
    mask = np.ones((rows, steps), bool) if mask is None else mask
    if initial_states is None:
        initial_states = [np.zeros((rows, units))] * number_of_states(cell)
    final = [np.array(state, "float64") for state in initial_states]
    outputs = np.zeros((rows, steps, units))
    for row in range(rows):
        order = valid_steps(mask, row)
        for place in reversed(order) if reverse else order:
            values = cell_step(cell, inputs[row, place], [state[row] for state in final], weights, update_gate)
            for state, new in zip(final, states_of(values), strict=True):
                state[row] = new
            outputs[row, place] = final[0][row]
    return outputs, final


def cudnn(mode, inputs, initial_state, initial_cell_state, params, lengths, units):
    """Compute the three networks as cuDNN documents them.

    Every block multiplies from the left and has two biases, all in one flat vector, in the order [i | f | g | o] for an
    LSTM and [r | z | n] for a GRU.
    """
    number = {"rnn_tanh": 1, "lstm": 4, "gru": 3}[mode]
    features, params = inputs.shape[-1], np.asarray(params, "float64")
    shapes = [(units, features)] * number + [(units, units)] * number + [(units,)] * 2 * number
    sizes = [int(np.prod(shape)) for shape in shapes]
    assert params.shape == (sum(sizes),)
    blocks = [part.reshape(shape) for part, shape in zip(np.split(params, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    w, u, b, c = (blocks[start * number : (start + 1) * number] for start in range(4))
    outputs = np.zeros((*inputs.shape[:2], units))
    final, final_cell = np.array(initial_state, "float64"), np.array(initial_cell_state, "float64")
    for row, row_length in enumerate(lengths):
        assert row_length >= 1, "cuDNN refuses empty rows"
        for place in range(row_length):
            x, h = inputs[row, place], final[row]
            from_input = [w[gate] @ x + b[gate] for gate in range(number)]
            from_state = [u[gate] @ h + c[gate] for gate in range(number)]
            if mode == "rnn_tanh":
                final[row] = np.tanh(from_input[0] + from_state[0])
            elif mode == "lstm":
                i, f, g, o = (one + other for one, other in zip(from_input, from_state, strict=True))
                final_cell[row] = sigmoid(f) * final_cell[row] + sigmoid(i) * np.tanh(g)
                final[row] = sigmoid(o) * np.tanh(final_cell[row])
            else:
                r = sigmoid(from_input[0] + from_state[0])
                z = sigmoid(from_input[1] + from_state[1])
                n = np.tanh(from_input[2] + r * from_state[2])
                final[row] = (1.0 - z) * n + z * h
            outputs[row, place] = final[row]
    return outputs, final, final_cell


def encoder(inputs, mask, layers, residual=False, input_masks=None, cell="gru", update_gate="keep"):
    """`layers` holds one list of weights a direction for each layer; `input_masks`, dropout factors of its inputs."""
    outputs = np.asarray(inputs, "float64")
    for index, directions in enumerate(layers):
        layer_inputs = outputs if input_masks is None else outputs * input_masks[index]
        read = [
            recurrent(cell, layer_inputs, mask, None, weights, direction == 1, update_gate)[0]
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
    """Join the last step of the half that reads forwards to the first of the half that reads backwards."""
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


def attention_position(score, memory, mask, query, values=None, factor=None):
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
        context, weights = attention_position(scaled_dot, keys, mask, query @ query_kernel[:, head], values=values)
        contexts.append(context)
        all_weights.append(weights)
    return np.concatenate(contexts) @ output_kernel, np.mean(all_weights, axis=0)


def mixture(gate, probabilities, weights, source_ids):
    """See et al. 2017, equation 9, of one step of one sentence."""
    mixed = gate * probabilities
    for weight, token in zip(weights, source_ids, strict=True):
        mixed[token] += (1 - gate) * weight
    return mixed


def decoder(parts, token_ids, memory, mask):
    """One token after another, one sentence after another.

    `parts` has the weights and choices by name: embeddings, cell, update_gate, bridges (kernel and bias of each state
    of each layer, or none), layers (weights of each), readout (kernel, bias), output (matrix, bias), summary and read
    (functions of a sentence), copying (kernel, bias, a function of a sentence that weighs its tokens, and these; or
    None), context_inputs, attention_position, input_feeding, residual, and dropout factors `embedding`, `outputs`,
    `features`. Returns logits, and the weights of each step where there are any.
    """
    all_logits, all_weights = [], []
    for row in range(len(token_ids)):
        logits, weights = _decode_sentence(parts, token_ids[row], memory[row : row + 1], mask[row : row + 1], row)
        all_logits.append(logits)
        all_weights.append(weights)
    return np.array(all_logits), np.array(all_weights)


def _decode_sentence(parts, token_ids, memory, mask, row):
    summary = parts["summary"](memory, mask)[0]
    bridged = [np.tanh(summary @ kernel + bias) for kernel, bias in parts["bridges"]]
    states = []
    for weights in parts["layers"]:
        zeros = [np.zeros(len(weights[1]))] * number_of_states(parts["cell"])
        states.append([bridged.pop(0) for _ in zeros] if "state" in parts["context_inputs"] else zeros)
    fed = np.zeros(len(parts["readout"][1]))
    all_logits, all_weights = [], []
    for place, token in enumerate(token_ids):
        context, weights = None, None
        embedded = parts["embeddings"][token] * parts["dropout"]["embedding"][row]
        inputs = [embedded]
        if parts["input_feeding"]:
            inputs.append(fed)
        if "input" in parts["context_inputs"]:
            context, weights = parts["read"](memory, mask, states[-1][0])
            inputs.append(context)
        outputs = np.concatenate(inputs)
        for index, layer_weights in enumerate(parts["layers"]):
            layer_inputs = outputs
            if index == 1 and parts["attention_position"] == "between":
                context, weights = parts["read"](memory, mask, outputs)
                layer_inputs = np.concatenate([outputs, context])
            values = cell_step(parts["cell"], layer_inputs, states[index], layer_weights, parts["update_gate"])
            states[index] = states_of(values)
            outputs = values["state"] + (outputs if parts["residual"] and index > 0 else 0.0)
            outputs = outputs * parts["dropout"]["outputs"][index][row]
        state = outputs
        if "readout" in parts["context_inputs"]:
            if context is None:
                context, weights = parts["read"](memory, mask, outputs)
            outputs = np.concatenate([outputs, context])
        kernel, bias = parts["readout"]
        fed = np.tanh(outputs @ kernel + bias)
        matrix, output_bias = parts["output"]
        logits = matrix @ (fed * parts["dropout"]["features"][row, place]) + output_bias
        if parts["copying"] is not None:
            gate_kernel, gate_bias, copy_weights, source_ids = parts["copying"]
            known = [state, *([] if context is None else [context]), embedded]
            gate = sigmoid(np.concatenate(known) @ gate_kernel[:, 0] + gate_bias[0])
            logits = np.log(mixture(gate, softmax(logits), copy_weights(memory, mask, state, weights), source_ids[row]))
        all_logits.append(logits)
        all_weights.append(weights)
    return all_logits, all_weights
