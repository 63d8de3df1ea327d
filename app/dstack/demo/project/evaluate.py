"""Looks at what model/ gets wrong on the test part of data/, and writes report.md."""

import json
from pathlib import Path

import joblib
import numpy
from sklearn.metrics import confusion_matrix

data = numpy.load("data/digits.npz")
model = joblib.load("model/digits.joblib")
truth, guess = data["test_labels"], model.predict(data["test_images"])

table = confusion_matrix(truth, guess)
mistakes = sorted(
    ((int(table[t, g]), t, g) for t in range(10) for g in range(10) if t != g and table[t, g]), reverse=True
)
accuracy = float((truth == guess).mean())
wrong = int((truth != guess).sum())
print(f"{wrong} of {len(truth)} wrong, accuracy {accuracy:.4f}")

Path("metrics.json").write_text(json.dumps({"accuracy": accuracy, "mistakes": wrong}))
rows = "\n".join(f"| {t} | {g} | {count} |" for count, t, g in mistakes[:10])
Path("report.md").write_text(
    f"""# Mistakes

**{wrong}** of {len(truth)} digits are read wrongly.

| is | read as | times |
|---|---|---|
{rows}
"""
)
