"""Model files that are not quite: spoilt bytes, and archives that are whole but hold something else."""

import io
import json
import random
import zipfile

NUMBERS = (0, -1, 1, 2**31, 2**62, 10**30, 1e308, 0.5)
OTHERS = (None, True, "", "gru", "\0", "../../etc/passwd", [], {}, [[]] * 50, "x" * 10_000)
NAMES = ("../evil", "/tmp/evil", "assets/../../evil", "C:\\evil", "assets\\..\\evil", "evil", "assets/evil")
OBJECTS = (
    {"class_name": "Lambda", "module": "keras.layers", "registered_name": None, "config": {"function": "x"}},
    {"class_name": "system", "module": "os", "registered_name": "function", "config": "touch evil"},
    {"class_name": "function", "module": "builtins", "registered_name": "function", "config": "eval"},
    {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}},
    {"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {"module": "gASVAA=="}},
)


def mutate(content: bytes, seed: int) -> bytes:
    """One mutation of a model file; the same seed always gives the same."""
    draw = random.Random(seed)
    return draw.choice((_spoilt, _cut, _moved, _repacked, _repacked, _reconfigured, _reconfigured, _renamed))(
        content, draw
    )


def repacked(content: bytes, change) -> bytes:
    """Rebuild an archive; `change(name, bytes)` returns name and bytes of each part, or None to leave it out."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(written, "w") as after:
        for part in before.infolist():
            changed = change(part.filename, before.read(part))
            if changed is not None:
                after.writestr(*changed)
    return written.getvalue()


def reconfigured(content: bytes, change) -> bytes:
    """Rebuild an archive with the config that `change(config)` returns."""

    def change_part(name, part):
        return (name, json.dumps(change(json.loads(part))) if name == "config.json" else part)

    return repacked(content, change_part)


def _spoilt(content, draw):
    spoilt = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 30))):
        spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
    return bytes(spoilt)


def _cut(content, draw):
    return content[: draw.randrange(len(content))]


def _moved(content, draw):
    first, second = sorted(draw.randrange(len(content)) for _ in range(2))
    return draw.choice((content[:first] + content[second:], content[:second] + content[first:]))


def _repacked(content, draw):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        chosen = draw.choice([part.filename for part in archive.infolist()])
    how = draw.choice((_spoilt, _spoilt, _cut, _moved, lambda part, draw: b"", lambda part, draw: None))

    def change(name, part):
        if name == chosen:
            part = how(part, draw)
        return None if part is None else (name, part)

    return repacked(content, change)


def _reconfigured(content, draw):
    def change(config):
        places = []

        def collect(entry):
            for key in entry if isinstance(entry, dict) else range(len(entry)):
                places.append((entry, key))
                if isinstance(entry[key], dict | list):
                    collect(entry[key])

        collect(config)
        for _ in range(draw.choice((1, 1, 2))):
            entry, key = draw.choice(places)
            kind = draw.random()
            if kind < 0.15 and isinstance(entry, dict):
                entry.pop(key, None)
            elif kind < 0.3:
                entry[key] = draw.choice(OBJECTS)
            elif isinstance(entry.get(key) if isinstance(entry, dict) else None, int | float):
                entry[key] = draw.choice(NUMBERS)
            else:
                entry[key] = draw.choice((*NUMBERS, *OTHERS))
        return config

    return reconfigured(content, change)


def _renamed(content, draw):
    names = iter(draw.sample(NAMES, len(NAMES)))
    return repacked(content, lambda name, part: (next(names, name) if draw.random() < 0.3 else name, part))
