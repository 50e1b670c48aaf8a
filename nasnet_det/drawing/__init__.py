"""Cells and networks as pictures."""
