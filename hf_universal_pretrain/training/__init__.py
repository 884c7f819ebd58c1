"""Trainers: exact runs, judged in bits, on a synthetic stream."""
