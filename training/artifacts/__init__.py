"""The contract between training, serving and measuring: checkpoints, conversations, comparisons, errors."""
