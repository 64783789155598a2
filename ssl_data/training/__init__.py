"""Store to gradient: dataset, augmentation, batches and the loss. Needs torch."""
