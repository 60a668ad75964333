"""Measure how fast this machine trains and applies a model: `python -m tools.bench`; sections.py says what."""
