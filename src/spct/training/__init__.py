"""What every training stage shares: optimisers, batches, checkpoints and the supervised loop."""
