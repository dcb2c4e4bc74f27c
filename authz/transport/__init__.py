"""Turns what a gateway sends into a Request and a Decision into what it expects back; nothing else."""
