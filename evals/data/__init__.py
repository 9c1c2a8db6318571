"""Readers of published evaluation data, each for every layout in which its data is found."""
