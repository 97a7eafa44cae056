"""Writes the pictures of specs/pictures/ and tests/golden/pictures/, and what torchvision makes of
them with Pillow: cases.json says how each was preprocessed, expected.npz holds the results.

Run it anywhere: python tests/golden/make_pictures.py
Needs torch, torchvision, pillow, scikit-image.
"""

import json
import pathlib
import struct
import zlib

import numpy as np
import skimage.data
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "pictures"
PHOTOS = HERE.parent.parent / "specs" / "pictures"

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PLAIN = {"mean": [0.0], "std": [1.0]}


def write_png(path, array, color_type, depth, interlaced=False):
    """A PNG of samples as they are: Pillow writes neither 16 bits of colour nor interlacing."""
    height, width = array.shape[:2]
    big = array.astype(">u2" if depth == 16 else "u1")
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                  (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x, y, dx, dy in passes:
        part = big[y::dy, x::dx]
        if part.size:
            raw += b"".join(b"\0" + row.tobytes() for row in part)

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
                     + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def write_pictures():
    photo = Image.fromarray(skimage.data.coffee()).resize((61, 47), Image.LANCZOS)
    rgb = np.asarray(photo)
    alpha = np.linspace(0, 255, 61 * 47).astype(np.uint8).reshape(47, 61)
    gray = np.asarray(photo.convert("L"))
    noise = np.random.default_rng(0).integers(0, 65536, (21, 33, 3)).astype(np.uint16)

    photo.save(FOLDER / "rgb.png")
    photo.convert("L").save(FOLDER / "gray.png")
    Image.fromarray(np.dstack([rgb, alpha])).save(FOLDER / "rgba.png")
    Image.fromarray(np.dstack([gray, alpha])).save(FOLDER / "gray_alpha.png")
    palette = photo.quantize(31)
    palette.save(FOLDER / "palette.png")
    palette.save(FOLDER / "palette_alpha.png", transparency=3)
    photo.convert("1").save(FOLDER / "one_bit.png")
    write_png(FOLDER / "rgb16.png", noise, 2, 16)
    write_png(FOLDER / "interlaced.png", rgb, 2, 8, interlaced=True)

    photo.save(FOLDER / "rgb.jpg", quality=90)
    photo.save(FOLDER / "full_chroma.jpg", quality=90, subsampling=0)
    photo.save(FOLDER / "progressive.jpg", quality=90, progressive=True)
    photo.convert("L").save(FOLDER / "gray.jpg", quality=90)
    photo.convert("CMYK").save(FOLDER / "cmyk.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(FOLDER / "turned.jpg", quality=90, exif=exif)

    for name in ["chelsea", "coffee"]:
        picture = Image.fromarray(getattr(skimage.data, name)())
        picture.save(PHOTOS / f"{name}.jpg", quality=90, optimize=True)


# 16 bits of grey are not here: Pillow's own meaning of them changed between versions.
def cases():
    def case(file, resize=None, crop=None, color="rgb", numbers=PLAIN):
        return {"file": file, "resize": resize, "crop": crop, "color": color, **numbers}

    down = {"resize": 24, "crop": 20}
    yield case("rgb.png")
    yield case("rgb.png", **down, numbers=IMAGENET)
    yield case("rgb.png", 24, 19)
    yield case("rgb.png", 31, [17, 30])
    yield case("rgb.png", 30, [31, 28])
    yield case("rgb.png", 20, [33, 40])
    yield case("rgb.png", 20, 21)
    yield case("rgb.png", 101, 64)
    yield case("rgb.png", [40, 13])
    # Pillow 13 scales the rows of this one first, older versions (and alexc) the columns.
    yield {**case("rgb.png", [9, 200], [8, 8]), "levels": 1}
    yield case("rgb.png", [47, 20])
    yield case("rgb.png", None, 32)
    yield case("rgb.png", 1, 1)
    yield case("rgb.png", **down, color="bgr", numbers=IMAGENET)
    yield case("rgb.png", **down, color="gray", numbers={"mean": [0.1307], "std": [0.3081]})
    for file in ["gray.png", "rgba.png", "gray_alpha.png", "palette.png", "palette_alpha.png",
                 "one_bit.png", "interlaced.png"]:
        for color in ["rgb", "gray"]:
            yield case(file, **down, color=color)
    yield case("rgb16.png", 16, 16)
    for file in ["rgb.jpg", "full_chroma.jpg", "progressive.jpg", "gray.jpg", "cmyk.jpg",
                 "turned.jpg"]:
        yield case(file)
        yield case(file, **down)
        yield case(file, **down, color="gray")


def preprocess(picture, case):
    """The usual torchvision pipeline on a Pillow picture."""
    color = case["color"]
    steps = []
    if case["resize"]:
        steps.append(transforms.Resize(case["resize"], InterpolationMode.BILINEAR))
    if case["crop"]:
        steps.append(transforms.CenterCrop(case["crop"]))
    steps.append(transforms.ToTensor())
    if color == "bgr":
        steps.append(transforms.Lambda(lambda tensor: tensor.flip(0)))
    steps.append(transforms.Normalize(case["mean"], case["std"]))
    return transforms.Compose(steps)(picture.convert("L" if color == "gray" else "RGB"))


def main():
    FOLDER.mkdir(exist_ok=True)
    PHOTOS.mkdir(exist_ok=True, parents=True)
    write_pictures()
    listed, expected = [], {}
    # The photograph is at the size that AlexNet reads.
    photo = {"file": "../../../specs/pictures/chelsea.jpg", "resize": 256, "crop": 224,
             "color": "rgb", **IMAGENET}
    for number, case in enumerate([*cases(), photo]):
        result = preprocess(Image.open(FOLDER / case["file"]), case)
        # Of the larger results every third or seventh pixel is enough.
        step = 1 if result[0].numel() <= 400 else 3 if result[0].numel() < 10_000 else 7
        name = f"case{number}"
        listed.append({"name": name, **case, "shape": list(result.shape), "step": step})
        expected[name] = result[:, ::step, ::step].numpy()

    lines = ",\n".join(json.dumps(case) for case in listed)
    (FOLDER / "cases.json").write_text(f"[\n{lines}\n]\n")
    np.savez_compressed(FOLDER / "expected.npz", **expected)
    print(f"{len(listed)} cases; torchvision on Pillow {Image.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
