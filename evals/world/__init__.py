"""What only the miniature world needs: its items, its rules as a judge, its few-shot examples.

Each file holds the world's part of a suite. Nothing outside this folder and `training.miniature` knows the world's
rows; evaluating a real model needs none of it.
"""
