"""Compiles convolutional nets of AlexNet's family to machine code and runs them on numpy arrays."""

import os
from collections.abc import Sequence
from typing import Literal, Union, final

import numpy
from numpy.typing import NDArray

__version__: str

class Error(Exception):
    """What is wrong with a spec, with weights or with a file, as the command alexc says it."""

@final
class Net:
    """A compiled net. Any number of threads may call it at the same time."""

    def __call__(
        self, input: NDArray[numpy.float32], /, *, out: Union[NDArray[numpy.float32], None] = None
    ) -> NDArray[numpy.float32]:
        """Runs the net on a C-contiguous array of `input_shape` (without the batch where that is
        1). Returns a new array of `output_shape`, or writes into `out` and returns that."""

    def preprocess(self, picture: NDArray[numpy.uint8]) -> NDArray[numpy.float32]:
        """Makes an input of a picture as the spec's `preprocess` says: H x W x 3 (red, green, blue)
        or H x W (grey) becomes one image of the input, 1 x C x H x W."""

    @property
    def name(self) -> str:
        """Name of the net."""

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the output; may be empty."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Dimensions of the input, batch first."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Dimensions of the output, batch first."""

    @property
    def probabilities(self) -> bool:
        """The output is that of a softmax."""

    @property
    def threads(self) -> int:
        """Threads that a run works on."""

def compile(
    spec: Union[str, os.PathLike[str]],
    weights: Union[str, os.PathLike[str]],
    *,
    batch: Union[int, None] = None,
    threads: Union[int, None] = None,
    math: Literal["fast", "strict"] = "fast",
    weights_dtype: Literal["f32", "f16", "bf16", "int8"] = "f32",
    sets: Sequence[str] = ...,
    logits: bool = False,
) -> Net:
    """Compiles a spec for this machine and packs its weights: a .safetensors file, or
    `random:SEED` for a trial."""

def open(
    module: Union[str, os.PathLike[str]],
    weights: Union[str, os.PathLike[str], None] = None,
    *,
    threads: Union[int, None] = None,
) -> Net:
    """Opens a module that `alexc build --emit module,weights` wrote; its weights lie beside it
    unless they are named."""
