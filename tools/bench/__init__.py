"""How fast is it, here? `python -m tools.bench`.

__main__.py   the command
sections.py   what is measured: epoch, floor, start, seeds, hidden, modalities, length, corpus, latency, run
training.py   a config and a corpus → compiled epochs that can be timed
probe.py      the same in a process of its own, for start-up and peak memory
count.py      operations and bytes of a training step, by module and as the compiler counts them
machine.py    the machine: what it is, its matrix-multiply and memory rates, its free memory
clock.py      wall and CPU seconds of a function
corpora.py    a corpus resized: longer dialogues, more of them, more modalities
reference.py  the same model written the plain way, to compare with
report.py     the table; chart.py: the picture
"""
