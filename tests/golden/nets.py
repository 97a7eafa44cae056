"""The nets of specs/ once more, written for PyTorch by hand from their papers and from torchvision,
not from the specs: what a mistake in a spec or in its reading is held against.

`values(x)` of a net gives the value of every layer by the layer's name in the spec (of the four
AlexNets; none for the others) and the logits.
"""

import torch
import torchvision
from torch import nn
from torch.nn import functional


def paper_norm():
    """Section 3.3 of the 2012 paper. PyTorch divides its alpha by the window's size."""
    return nn.LocalResponseNorm(5, alpha=1e-4 * 5, beta=0.75, k=2.0)


class Chain(nn.Module):
    """Layers one after the other in `features` and `classifier`, as torchvision lays nets out.

    `names` has one name for each of them, dropout included.
    """

    def __init__(self, features, classifier, names, pad=None):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*classifier)
        self.names = names.split()
        self.pad = pad
        assert len(self.names) == len(features) + len(classifier), "one name a layer"

    def values(self, x):
        """The value of every layer, by name, and the logits. Values are copies: torchvision's
        ReLU works in place."""
        made = {}
        names = iter(self.names)
        if self.pad:
            x = functional.pad(x, self.pad)
        for layer in self.features:
            x = layer(x)
            made[next(names)] = x.clone()
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                x = x.flatten(1)
            x = layer(x)
            made[next(names)] = x.clone()
        return made, x.flatten(1)


def convolutions_2012(groups):
    return [
        nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), paper_norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=groups), nn.ReLU(), paper_norm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=groups), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=groups), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]


def alexnet_2012(groups):
    classifier = [
        nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, 1000),
    ]
    names = """conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4
        conv5 relu5 pool5 fc1 relu6 drop1 fc2 relu7 drop2 fc3"""
    # One zero column left and row above, two right and below: 227 = 224 + 1 + 2.
    return Chain(convolutions_2012(groups), classifier, names, pad=(1, 2, 1, 2))


def alexnet_without_norm(kernels, width, dropout):
    a, b, c, d, e = kernels
    features = [
        nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
        nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]
    classifier = [
        nn.Dropout(dropout), nn.Linear(e * 6 * 6, width), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 1000),
    ]
    names = """conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5
        drop1 fc1 relu6 drop2 fc2 relu7 fc3"""
    return Chain(features, classifier, names)


def alexnet_torchvision():
    """torchvision's own module; its classifier's layers are those of the hand-written one."""
    net = alexnet_without_norm((64, 192, 384, 256, 256), 4096, 0.5)
    theirs = torchvision.models.alexnet()
    # The average pool in between is the identity at 224 x 224.
    net.features, net.classifier = theirs.features, theirs.classifier
    return net


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def values(self, x):
        x = functional.avg_pool2d(self.conv1(x).tanh(), 2)
        x = functional.avg_pool2d(self.conv2(x).tanh(), 2)
        x = self.fc2(self.fc1(x.flatten(1)).tanh()).tanh()
        return {}, self.fc3(x)


class ZfNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 96, 7, 2, 1), nn.Conv2d(96, 256, 5, 2)
        self.conv3, self.conv4 = nn.Conv2d(256, 384, 3, 1, 1), nn.Conv2d(384, 384, 3, 1, 1)
        self.conv5 = nn.Conv2d(384, 256, 3, 1, 1)
        self.fc1, self.fc2 = nn.Linear(256 * 36, 4096), nn.Linear(4096, 4096)
        self.fc3 = nn.Linear(4096, 1000)
        self.norm = paper_norm()

    def values(self, x):
        x = self.norm(functional.max_pool2d(self.conv1(x).relu(), 3, 2, 1))
        x = self.norm(functional.max_pool2d(self.conv2(x).relu(), 3, 2, 1))
        x = self.conv5(self.conv4(self.conv3(x).relu()).relu()).relu()
        x = functional.max_pool2d(x, 3, 2).flatten(1)
        return {}, self.fc3(self.fc2(self.fc1(x).relu()).relu())


class Torchvision(nn.Module):
    """A net of torchvision as it is; only its logits are kept."""

    def __init__(self, name):
        super().__init__()
        self.net = getattr(torchvision.models, name)()

    def state_dict(self, *args, **kwargs):
        return self.net.state_dict(*args, **kwargs)

    def load_state_dict(self, state):
        return self.net.load_state_dict(state)

    def values(self, x):
        return {}, self.net(x)


NETS = {
    "alexnet": lambda: alexnet_2012(groups=1),
    "alexnet-2gpu": lambda: alexnet_2012(groups=2),
    "alexnet-pytorch": lambda: alexnet_without_norm((96, 256, 384, 384, 256), 2048, 0.2),
    "alexnet-torchvision": alexnet_torchvision,
    "lenet5": LeNet5,
    "zfnet": ZfNet,
    "vgg16": lambda: Torchvision("vgg16"),
    "squeezenet1_1": lambda: Torchvision("squeezenet1_1"),
    "resnet18": lambda: Torchvision("resnet18"),
}

# Every batch of which golden files exist.
BATCHES = {name: [1, 3] if name.startswith("alexnet") else [1] for name in NETS}
INPUTS = {"lenet5": (1, 32, 32)}


def input_shape(name, batch):
    return (batch, *INPUTS.get(name, (3, 224, 224)))


def build(name):
    """The net in evaluation mode, its parameters not drawn yet."""
    with torch.no_grad():
        return NETS[name]().eval()
