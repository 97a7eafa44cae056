"""Writes the small .npz and .safetensors files from which tests read what NumPy and safetensors
wrote. Run it in this folder: python make_files.py"""

import pathlib

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent


def main():
    values = (np.arange(6, dtype=np.float32) / 2).reshape(2, 3)
    arrays = {
        "c_order": values,
        "fortran": np.asfortranarray(values),
        "double": values.astype(np.float64),
        "half": values.astype(np.float16),
        "big_endian": values.astype(">f4"),
        "integers": np.arange(6),
        "scalar": np.float32(0.25),
        "empty": np.zeros((0, 3), np.float32),
    }
    np.savez(HERE / "arrays.npz", **arrays)
    np.savez_compressed(HERE / "arrays_compressed.npz", **arrays)
    tensors = {name: arrays[name] for name in ["c_order", "half", "integers"]}
    save_file(tensors, HERE / "arrays.safetensors")


if __name__ == "__main__":
    main()
