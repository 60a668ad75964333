"""Losses, the table of loss terms, tasks and metrics."""
