"""How a row of a data set becomes a record, whoever published it.

`demonstrations`, `comparisons`, `prompts`, `pretraining` text; `messages` reads the columns that hold conversations.
"""
