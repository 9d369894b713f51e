"""async_r1: asynchronous off-policy reinforcement learning of reasoning LLMs."""

__version__ = "0.1.0"
