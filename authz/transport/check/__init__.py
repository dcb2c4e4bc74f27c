"""A CheckRequest read and a CheckResponse written, each once and without a message object per field."""
