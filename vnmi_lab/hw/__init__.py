"""The processor: what the AMD manual says, and nothing of KVM or Jupyter."""
