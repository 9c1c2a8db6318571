"""A stage's data as token ids, with a count of everything that is left out.

`reading`    the records of several sources, limited at random, cleaned by `hygiene`
`rendering`  records as token ids, kept by `cache` (`items`, `ragged`, `documents`, `lengths`: their form)
`splits`     training and held-out rows, and weights of sources
`usage`      what was used and left out
`report`, `preview`  `python -m training data`
"""
