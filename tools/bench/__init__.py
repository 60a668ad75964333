"""Measure how fast this machine trains and applies a model: `python -m tools.bench`.

__main__.py   the command: its options, progress and files
sections.py   what is measured, section by section; read it first
epochs.py     the time of an epoch of a config on a corpus, in this process or in a new one
corpora.py    a corpus of another size: longer dialogues, or more of them
machine.py    what the machine is, its memory, and wall and CPU seconds of a function
report.py     the tables
"""
