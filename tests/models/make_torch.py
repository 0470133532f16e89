"""Writes torch_gru.npz and torch_lstm.npz, for which alone PyTorch is needed: run it once, by hand.

Each holds the arrays of a small encoder-decoder, trained a little to write its source backwards, and what PyTorch
computes with it.
"""

import pathlib

import numpy as np

WORDS, UNITS, LAYERS, LENGTH = 9, 6, 2, 5
START, END = 1, 2


def main():
    import torch
    from torch import nn

    for name, module in (("gru", nn.GRU), ("lstm", nn.LSTM)):
        torch.manual_seed(1)
        encoder = nn.ModuleDict(
            {"embedding": nn.Embedding(1 + WORDS, 4, padding_idx=0), "rnn": module(4, UNITS, LAYERS, batch_first=True)}
        )
        decoder = nn.ModuleDict(
            {
                "embedding": nn.Embedding(3 + WORDS, 5),
                "rnn": module(5, UNITS, LAYERS, batch_first=True),
                "output": nn.Linear(UNITS, 3 + WORDS),
            }
        )
        model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})

        def encode(ids, encoder=encoder):
            return encoder["rnn"](encoder["embedding"](ids))[1]

        def decode(ids, state, decoder=decoder):
            outputs, state = decoder["rnn"](decoder["embedding"](ids), state)
            return decoder["output"](outputs), state

        optimizer = torch.optim.Adam(model.parameters(), 0.03)
        for _ in range(150):
            source = torch.randint(1, 1 + WORDS, (32, LENGTH))
            target = torch.cat([source.flip(1) + 2, torch.full((32, 1), END)], 1)
            read = torch.cat([torch.full((32, 1), START), target[:, :-1]], 1)
            logits, _ = decode(read, encode(source))
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        source, target = source[:6], target[:6]
        with torch.no_grad():
            log_probs = decode(read[:6], encode(source))[0].log_softmax(-1)
            state, last, greedy = encode(source), torch.full((6, 1), START), []
            for _ in range(8):
                logits, state = decode(last, state)
                last = logits.argmax(-1)
                greedy.append(last)
        arrays = {key: value.numpy() for key, value in model.state_dict().items()}
        np.savez_compressed(
            pathlib.Path(__file__).with_name(f"torch_{name}.npz"),
            **arrays,
            source=source.numpy(),
            target=target.numpy(),
            log_probs=log_probs.numpy(),
            greedy=torch.cat(greedy, 1).numpy(),
        )
        print(name, loss.item())


if __name__ == "__main__":
    main()
