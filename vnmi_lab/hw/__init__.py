"""The processor: what hardware owns."""
