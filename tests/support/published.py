"""Small data sets in the layouts of published ones, rows written anew, with the records that must come of them.

`DATA_SETS` is for every reader: `training`, `service import prompts` and `evals` must make the same records of them.
"""

from tests.support.data_sets import chats, instructions, pairs, ratings, trees, votes
from tests.support.data_sets.data_set import DataSet, Judged

__all__ = ["DATA_SETS", "DataSet", "Judged"]

DATA_SETS: tuple[DataSet, ...] = (
    *instructions.DATA_SETS,
    *chats.DATA_SETS,
    *pairs.DATA_SETS,
    *ratings.DATA_SETS,
    *votes.DATA_SETS,
    *trees.DATA_SETS,
)
