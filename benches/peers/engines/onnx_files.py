"""What the readers of ONNX share: the file, and the spellings of LRN to try."""

from __future__ import annotations

from exports import Exports, writing


def forms(net, spellings: tuple[str, ...]) -> list[str]:
    """The spellings of LRN, or one plain form for a net without it."""
    return list(spellings) if any(layer.kind == "lrn" for layer in net.layers) else ["plain"]


def export(exports: Exports, form: str, batch: int) -> None:
    """Writes the ONNX file of a form; the weights stay in the one weight file beside it."""
    import onnx_net

    target = exports.model(f"{form}.onnx", batch)
    if not target.exists():
        with writing(target) as path:
            onnx_net.write(exports.net(), exports.weights, batch, path, form)
