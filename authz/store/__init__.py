"""What is remembered: records, counters, refusals. `open.py` opens a store by its URL."""
