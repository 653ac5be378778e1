"""What every network shares: training, batches, dropout, and how weights are kept."""
