"""What a decision costs, beside null servers and peers in the same run: docs/performance.md."""
