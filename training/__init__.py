"""Training: what makes checkpoints.

`artifacts`  the contract that service and evals build on: checkpoints, conversations, rows, comparisons (plain Python)
`data`       demonstrations, comparisons, prompts and text as typed records; hygiene
`stages`     one stage per file: tokenizer, pretrain, sft, sample, reward, ppo, adopt
`rl`         losses, rollouts, episodes, moving average, batches
`models`     load, build, run, optimize, publish
`runtime`    runs, configuration, processes
`loop`       demo, the next turn, the service's client, simulated labelers
`miniature`  the bundled world with a known true preference
`presets`    settings of every stage as TOML
"""
