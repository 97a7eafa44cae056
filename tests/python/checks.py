"""Checks of the installed module, run by tests/python.rs:

    checks.py FOLDER    with digits.alexc, digits.weights and seven.npy (of `alexc run`) in it
"""

import ast
import inspect
import sys
import threading
import time
from pathlib import Path

import alexc
import numpy
from PIL import Image

folder = Path(sys.argv[1])
repository = Path(__file__).resolve().parents[2]
specs = repository / "specs"
weights = specs / "digits" / "digits.safetensors"
digits = alexc.compile(specs / "digits.yaml", weights, threads=2)


def refused(kind, call, *texts):
    """The call fails with this kind of error and all of these texts."""
    try:
        call()
    except kind as error:
        assert type(error) is kind, type(error)
        for text in texts:
            assert text in str(error), str(error)
        return str(error)
    raise AssertionError("nothing was refused")


def picture(label):
    return numpy.asarray(Image.open(specs / "digits" / f"{label}.png").convert("RGB"))


def interface():
    assert digits.name == "digits"
    assert digits.input_shape == (1, 1, 16, 16)
    assert digits.output_shape == (1, 10)
    assert digits.labels == (specs / "digits" / "labels.txt").read_text().split()
    assert digits.probabilities and digits.threads == 2
    assert repr(digits) == "<alexc.Net digits: (1, 1, 16, 16) to (1, 10)>"
    assert alexc.__version__.count(".") == 2


def stub():
    """What type checkers read says what is there: the same names, with the same parameters."""
    installed = Path(alexc.__file__).parent
    assert (installed / "py.typed").exists()
    body = ast.parse((installed / "__init__.pyi").read_text()).body
    told = {node.name: node for node in body if hasattr(node, "name")}
    there = {name for name in dir(alexc) if not name.startswith("_")} - {"alexc"}
    assert told.keys() == there, (told.keys(), there)
    members = {node.name for node in told["Net"].body if isinstance(node, ast.FunctionDef)}
    own = {name for name in vars(alexc.Net) if not name.startswith("_") or name == "__call__"}
    assert members == own, (members, own)

    def compare(node, function):
        parameters = inspect.signature(function).parameters.values()
        positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        arguments = node.args
        assert [a.arg for a in arguments.posonlyargs + arguments.args] == positional, node.name
        assert [a.arg for a in arguments.kwonlyargs] == named, node.name
        given = {p.name for p in parameters if p.default is not p.empty}
        with_default = [a.arg for a in arguments.args][len(arguments.args) - len(arguments.defaults) :]
        with_default += [a.arg for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults) if d]
        assert set(with_default) == given, node.name

    compare(told["compile"], alexc.compile)
    compare(told["open"], alexc.open)
    preprocess = [node for node in told["Net"].body if getattr(node, "name", "") == "preprocess"]
    compare(preprocess[0], alexc.Net.preprocess)


def numbers():
    expected = numpy.load(folder / "seven.npy")
    image = digits.preprocess(picture("seven"))
    assert image.shape == (1, 1, 16, 16) and image.dtype == numpy.float32
    output = digits(image)
    assert output.dtype == numpy.float32 and numpy.array_equal(output, expected)
    # Without the batch of 1, from a read-only array, into an array of the caller's.
    image.flags.writeable = False
    store = numpy.full((3, 10), numpy.nan, numpy.float32)
    returned = digits(image[0], out=store[1:2])
    assert numpy.shares_memory(returned, store)
    assert numpy.array_equal(store[1:2], expected) and numpy.isnan(store[[0, 2]]).all()
    # Grey pictures of two axes and of three.
    grey = picture("seven")[:, :, 0].copy()
    assert (picture("seven") == grey[:, :, None]).all()
    for same in (grey, grey[:, :, None]):
        assert numpy.array_equal(digits.preprocess(same), image)
    for label in digits.labels:
        assert digits.labels[digits(digits.preprocess(picture(label)))[0].argmax()] == label


def modules():
    expected = numpy.load(folder / "seven.npy")
    for net in (
        alexc.open(folder / "digits.alexc"),
        alexc.open(str(folder / "digits.alexc"), folder / "digits.weights", threads=1),
    ):
        assert net.labels == digits.labels
        assert numpy.array_equal(net(net.preprocess(picture("seven"))), expected)
    refused(alexc.Error, lambda: alexc.open(folder / "none.alexc"), "none.alexc: No such file")
    refused(alexc.Error, lambda: alexc.open(folder / "seven.npy"), "this is no module file")
    swapped = lambda: alexc.open(folder / "digits.alexc", folder / "digits.alexc")
    refused(alexc.Error, swapped, "digits.alexc: this is no file of packed weights")


def options():
    logits = alexc.compile(specs / "digits.yaml", weights, logits=True, math="strict")
    image = digits.preprocess(picture("seven"))
    powers = numpy.exp(logits(image).astype(numpy.float64))
    assert abs(powers / powers.sum() - digits(image)).max() < 1e-5
    many = alexc.compile(specs / "digits.yaml", weights, batch=3, weights_dtype="f16")
    assert many.input_shape == (3, 1, 16, 16) and many.output_shape == (3, 10)
    assert abs(many(numpy.repeat(image, 3, 0)) - digits(image)).max() < 1e-2
    five = alexc.compile(specs / "digits.yaml", "random:1", sets=["fc5.out_features=5"])
    assert five.output_shape == (1, 5) and five.labels == []


def wrong_arrays():
    image = numpy.zeros((1, 1, 16, 16), numpy.float32)
    refused(TypeError, lambda: digits([1.0]), "the input must be a numpy array of float32, not list")
    refused(TypeError, lambda: digits(image.astype("f8")), "is an array of float64", "float32")
    refused(TypeError, lambda: digits(image.astype(">f4")), "must be one of float32")
    other = lambda: digits(image.reshape(1, 16, 16, 1))
    refused(ValueError, other, "the input has the shape (1, 16, 16, 1) and must have (1, 1, 16, 16)")
    turned = numpy.zeros((1, 1, 16, 16), numpy.float32).swapaxes(2, 3)
    refused(ValueError, lambda: digits(turned), "not C-contiguous", "ascontiguousarray")
    digits(numpy.ascontiguousarray(turned))
    out = numpy.zeros((1, 10), numpy.float32)
    refused(ValueError, lambda: digits(image, out=out[:, ::2]), "the output has the shape (1, 5)")
    wide = numpy.zeros((1, 20), numpy.float32)[:, ::2]
    refused(ValueError, lambda: digits(image, out=wide), "the output is not C-contiguous")
    out.flags.writeable = False
    refused(ValueError, lambda: digits(image, out=out), "the output is read-only")
    whole = numpy.zeros(256 + 10, numpy.float32)
    overlapping = lambda: digits(whole[:256].reshape(1, 1, 16, 16), out=whole[250:260][None])
    refused(ValueError, overlapping, "the output is in use")

    refused(TypeError, lambda: digits.preprocess(image[0, 0]), "must be one of uint8")
    refused(TypeError, lambda: digits.preprocess(None), "the picture must be a numpy array")
    refused(ValueError, lambda: digits.preprocess(numpy.zeros((5, 5, 4), "u1")), "(5, 5, 4)")
    refused(ValueError, lambda: digits.preprocess(numpy.zeros((0, 5, 3), "u1")), "no pixels")
    refused(ValueError, lambda: digits.preprocess(numpy.zeros((5, 10), "u1")[:, ::2]), "contiguous")


def errors_are_those_of_the_command():
    spec = folder / "wrong.yaml"
    told = (folder / "wrong.txt").read_text()
    message = refused(alexc.Error, lambda: alexc.compile(spec, "random:1"), "wrong.yaml:5:17")
    assert message == told.strip(), message
    missing = lambda: alexc.compile(specs / "lenet5.yaml", weights)
    refused(alexc.Error, missing, "digits.safetensors")
    refused(alexc.Error, lambda: alexc.compile(specs / "digits.yaml", weights, math="x"), "fast, strict")
    refused(alexc.Error, lambda: alexc.compile(specs / "digits.yaml", weights, batch=0), "--batch")
    refused(alexc.Error, lambda: alexc.compile(specs / "digits.yaml", weights, threads=0), "--threads 0")


def callers_at_the_same_time():
    random = numpy.random.default_rng(1)
    inputs = random.standard_normal((8, 1, 1, 16, 16)).astype(numpy.float32)
    expected = [digits(image) for image in inputs]
    wrong = []

    def call(index):
        for _ in range(200):
            if not numpy.array_equal(digits(inputs[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong


def other_threads_go_on():
    """While a long run lasts, this thread must get to its clock again and again."""
    batch = 512
    while True:
        net = alexc.compile(specs / "digits.yaml", "random:1", batch=batch, threads=1)
        image = numpy.zeros(net.input_shape, numpy.float32)
        times = []

        def call():
            times.append(time.perf_counter())
            net(image)
            times.append(time.perf_counter())

        thread = threading.Thread(target=call)
        thread.start()
        ticks = []
        while len(times) < 2:
            ticks.append(time.perf_counter())
            time.sleep(0.001)
        thread.join()
        start, end = times
        if end - start > 0.1:
            break
        batch *= 2
    # Threads of Python take turns of 5 ms: the ends of the run prove nothing.
    seen = [tick for tick in ticks if start + 0.02 < tick < end - 0.02]
    assert len(seen) >= 3, (len(seen), end - start)


for check in (
    interface,
    stub,
    numbers,
    modules,
    options,
    wrong_arrays,
    errors_are_those_of_the_command,
    callers_at_the_same_time,
    other_threads_go_on,
):
    check()
    print(f"{check.__name__}: ok")
