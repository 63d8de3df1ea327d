"""Trains a small neural network on data/digits.npz, reports loss and accuracy after every epoch, saves model/."""

import argparse
import json
import os
from pathlib import Path

import joblib
import numpy
from sklearn.neural_network import MLPClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--lr", type=float, default=0.003)
options = parser.parse_args()

data = numpy.load("data/digits.npz")
model = MLPClassifier(hidden_layer_sizes=(64,), learning_rate_init=options.lr, random_state=0)
classes = numpy.unique(data["train_labels"])

# Each line of this file becomes a point of a chart. Without dstack it goes to a file of its own.
with Path(os.environ.get("DSTACK_METRICS", "metrics.jsonl")).open("a") as metrics:
    for epoch in range(1, options.epochs + 1):
        model.partial_fit(data["train_images"], data["train_labels"], classes=classes)
        accuracy = model.score(data["test_images"], data["test_labels"])
        print(f"epoch {epoch:>2}/{options.epochs}  loss {model.loss_:.4f}  accuracy {accuracy:.4f}", flush=True)
        print(json.dumps({"step": epoch, "loss": model.loss_, "accuracy": accuracy}), file=metrics, flush=True)

Path("model").mkdir(exist_ok=True)
joblib.dump(model, "model/digits.joblib")
Path("metrics.json").write_text(json.dumps({"accuracy": accuracy, "loss": model.loss_}))
Path("report.md").write_text(
    f"""# Digits

A network with one hidden layer of 64, trained for **{options.epochs} epochs** at learning rate `{options.lr}`.

| | |
|---|---|
| accuracy on the test part | {accuracy:.4f} |
| loss on the training part | {model.loss_:.4f} |
"""
)
