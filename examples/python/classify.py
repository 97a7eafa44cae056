"""Says which digit a picture shows.

    pip install . pillow
    python examples/python/classify.py specs/digits/seven.png
"""

import sys
from pathlib import Path

import alexc
import numpy
from PIL import Image

if len(sys.argv) != 2:
    sys.exit("usage: classify.py PICTURE")

specs = Path(__file__).resolve().parents[2] / "specs"
net = alexc.compile(specs / "digits.yaml", specs / "digits" / "digits.safetensors")

picture = numpy.asarray(Image.open(sys.argv[1]).convert("RGB"))
output = net(net.preprocess(picture))[0]

best = int(output.argmax())
print(f"{best} {net.labels[best]} {output[best]:.6f}")
