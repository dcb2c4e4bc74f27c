"""Looking at a gateway from outside: does it ask, clean up, refuse, stream and settle as it should?"""
