"""What a response used: classified, charged, learned from."""
