-- End reservations that are over: what they held stays charged, and is entered as used.
-- ARGV  1 now  2 how many at most  3 late ones that are remembered
-- Answers how many it looked at, and how many entries in the ledger that makes.
return {sweep(tonumber(ARGV[2]), tonumber(ARGV[3]))}
