"""Prompts in, segments out: the vLLM engine, the rollout loop, weight reception."""
