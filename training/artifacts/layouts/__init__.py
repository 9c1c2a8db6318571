"""How a row of data becomes a record: demonstrations, comparisons, prompts, pretraining text.

A kind's module holds its record, `parse` and its ordered list of layouts; the first layout that a row fits is read.
columns: values of columns. messages, dialogues: conversations as lists and as one text. exchanges: prompts and
answers in columns. grouping, trees: records spread over several rows. preferences: one module per shape of judgment.
"""
