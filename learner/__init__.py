"""Batches in, versions out: DeepSpeed, objectives, corrections, checkpoints, publication."""
