"""Units that a replica sets aside ahead, so that what is asked for most needs no call for each decision."""
