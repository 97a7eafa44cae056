"""Trains the net of specs/digits.yaml on the handwritten digits that come with scikit-learn, and
writes everything in this folder beside it:

    digits.safetensors   the weights (the state dict, named as the layers of the spec)
    heldout.npz          the inputs of the pictures that training never saw, and the net's logits
    heldout-labels.txt   what these pictures show
    zero.png .. nine.png the first held-out picture of every class
    labels.txt           the classes
    training.json        the held-out accuracy, and with what it was reached

Run it anywhere: python specs/digits/train.py  (about a minute on one CPU core)
Needs torch, torchvision, scikit-learn, pillow, safetensors. The same versions on the same kind of
CPU write the same weights.
"""

import json
import pathlib

import numpy as np
import PIL
import sklearn
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torchvision import transforms

HERE = pathlib.Path(__file__).parent
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
EPOCHS = 40
SEED = 2012

# The spec's `preprocess`.
PREPROCESS = transforms.Compose([
    transforms.Resize(16),
    transforms.CenterCrop(16),
    transforms.ToTensor(),
    transforms.Normalize([0.3], [0.35]),
])


def normalisation():
    # alpha_scaling: sum. PyTorch divides its alpha by the size.
    return nn.LocalResponseNorm(5, alpha=0.02 * 5, beta=0.75, k=1.0)


class Digits(nn.Module):
    """The spec, layer by layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.norm1 = normalisation()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.norm2 = normalisation()
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc4 = nn.Linear(64 * 3 * 3, 96)
        self.fc5 = nn.Linear(96, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.norm1(self.conv1(x).relu()), 3, 2)
        x = nn.functional.max_pool2d(self.norm2(self.conv2(x).relu()), 3, 2)
        x = self.conv3(x).relu().flatten(1)
        x = nn.functional.dropout(self.fc4(x).relu(), 0.5, self.training)
        return self.fc5(x)


def picture(image):
    """An 8x8 digit of values 0 to 16 as a picture of 64x64 that a person can look at."""
    levels = np.round(image * (255 / 16)).astype(np.uint8)
    return Image.fromarray(levels).resize((64, 64), Image.NEAREST)


def train(inputs, labels):
    net = Digits()
    generator = torch.Generator().manual_seed(SEED)
    batch = 32
    steps = EPOCHS * (len(inputs) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        order = torch.randperm(len(inputs), generator=generator)
        for part in order[: len(order) // batch * batch].split(batch):
            # Each batch is moved by up to a pixel and a bit: writing is never quite centred.
            dy, dx = torch.randint(-1, 2, (2,), generator=generator).tolist()
            moved = torch.roll(inputs[part], (dy, dx), (2, 3))
            loss = nn.functional.cross_entropy(net(moved), labels[part], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(part)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / len(inputs):.4f}")
    return net.eval()


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    train_images, heldout_images, train_labels, heldout_labels = train_test_split(
        digits.images, digits.target, test_size=360, stratify=digits.target, random_state=SEED)
    train_inputs = torch.stack([PREPROCESS(picture(image)) for image in train_images])
    heldout_inputs = torch.stack([PREPROCESS(picture(image)) for image in heldout_images])

    net = train(train_inputs, torch.from_numpy(train_labels))
    with torch.no_grad():
        logits = net(heldout_inputs)
    correct = int((logits.argmax(1).numpy() == heldout_labels).sum())
    count = len(heldout_labels)
    print(f"held-out accuracy: {correct} of {count}, {100 * correct / count:.2f}%")

    save_file({name: value.contiguous() for name, value in net.state_dict().items()},
              HERE / "digits.safetensors")
    (HERE / "digits.safetensors").chmod(0o644)
    np.savez_compressed(HERE / "heldout.npz", input=heldout_inputs.numpy(), logits=logits.numpy())
    (HERE / "heldout-labels.txt").write_text("".join(f"{label}\n" for label in heldout_labels))
    for label, name in enumerate(NAMES):
        first = int(np.flatnonzero(heldout_labels == label)[0])
        picture(heldout_images[first]).save(HERE / f"{name}.png", optimize=True)
    (HERE / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    about = {
        "heldout_correct": correct,
        "heldout_count": count,
        "heldout_accuracy": round(correct / count, 4),
        "train_count": len(train_labels),
        "parameters": sum(p.numel() for p in net.parameters()),
        "epochs": EPOCHS,
        "seed": SEED,
        "versions": {
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "pillow": PIL.__version__,
        },
    }
    (HERE / "training.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
