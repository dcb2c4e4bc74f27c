"""How much is left: policies, what a request needs of each, and the figures a client is told."""
