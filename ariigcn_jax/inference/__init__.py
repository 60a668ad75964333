"""Trained models: prediction, streaming, export."""
