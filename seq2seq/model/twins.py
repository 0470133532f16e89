"""The same trained model on other cells: kernels for speed, raw cells for reading, one set of weights."""

from typing import TYPE_CHECKING, TypeVar

from seq2seq.layers.cells import CELLS, UpdateGateCell

if TYPE_CHECKING:
    from seq2seq.model.reader import SourceReader

Model = TypeVar("Model", bound="SourceReader")


def twin_of(model: Model, implementation: str, update_gate: str | None = None) -> Model:
    """A model with the weights of another, whose recurrent layers run in another way.

    Args:
        model: The model; it stays as it is.
        implementation: As in `Recurrent`; for a cell that the processor has no kernel for, `scan` is read as `raw`.
        update_gate: `keep` or `write`: how the twin's update gates are to be read, where its cells have any. None: as
            in the model.

    Returns:
        A new model. Where the gate's reading changes, the sign of the weights that make it does; all others are equal.
    """
    config = model.get_config()
    for part in model.PARTS:
        layer = getattr(model, part)
        if not hasattr(layer, "implementation"):
            continue
        has_kernel = bool(CELLS[layer.cell].kernel_name)
        config[part]["config"]["implementation"] = implementation if has_kernel or implementation != "scan" else "raw"
        if update_gate is not None and issubclass(CELLS[layer.cell], UpdateGateCell):
            config[part]["config"]["update_gate"] = update_gate
    twin = type(model).from_config(config)
    for name in model.ASSETS:
        setattr(twin, name, getattr(model, name))
    twin.set_weights(model.get_weights())
    for name, layer in twin.recurrent_layers.items():
        if layer.update_gate != model.recurrent_layers[name].update_gate:
            layer.cell.set_weights([layer.cell.with_gate_turned(weight) for weight in layer.cell.get_weights()])
    return twin
