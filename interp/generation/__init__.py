"""The sampler: batches with a KV cache, common random numbers, end tokens, edits of the logits."""
