"""A demo model: what `make run` and the tests put behind a gateway. No model runs in it."""
