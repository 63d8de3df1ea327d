"""Splits scikit-learn's bundled handwritten digits (1 797 real images of 8 x 8 pixels) into data/digits.npz."""

from pathlib import Path

import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

images, labels = load_digits(return_X_y=True)
parts = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)

Path("data").mkdir(exist_ok=True)
names = ("train_images", "test_images", "train_labels", "test_labels")
numpy.savez_compressed("data/digits.npz", **dict(zip(names, parts, strict=True)))
print(f"{len(parts[0])} images to train on, {len(parts[1])} to test with, written to data/digits.npz")
