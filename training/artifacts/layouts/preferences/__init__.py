"""How public preference data becomes comparisons: one module per shape.

frozen: our own rows. listed: a list of responses with ranks or ratings. chosen: a better and a worse one.
voted: two named responses and a verdict. ranked_replies: the ranked replies of OASST's trees.
"""
