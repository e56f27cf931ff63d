"""Long tests, run by hand: `python -m tests.stress.<name>`. The suite runs a short form of each."""
