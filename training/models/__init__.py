"""Models and tokenizers: `hardware` (device, threads, precision), `loading` (by id, stage, folder or hub id),
`building` (a new Llama, a scalar head), `forward` (log-probabilities, values, scores of ragged rows), `optimization`,
`probes` (what a manifest keeps to recognise the weights), `publishing`.
"""

import logging

from transformers.utils import logging as transformers_logging

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()
logging.getLogger("transformers").setLevel(logging.ERROR)
