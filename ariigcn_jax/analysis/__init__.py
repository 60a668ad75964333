"""Alignment of modalities, statistics and calibration."""
