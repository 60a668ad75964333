"""Compiled training: steps, epochs, seeds, diagnostics."""
