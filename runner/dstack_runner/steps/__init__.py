"""The steps of an attempt, one file each, run in the order `execute.py` lists them; each works on the attempt."""
