"""What a decision costs, beside a null server of the same stack in the same run."""
