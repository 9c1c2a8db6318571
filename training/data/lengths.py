"""Lengths in tokens that no stage goes beyond unless it is told to (Ouyang et al. 2022, appendix C)."""

CONTEXT = 2048  # of a prompt with its response, and of a row of text
PROMPT = 1024
RESPONSE = 1024
