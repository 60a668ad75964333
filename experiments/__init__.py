"""Configurations, and the commands that run them."""
