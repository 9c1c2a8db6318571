"""As vLLM has it: where a model's class is looked at."""
