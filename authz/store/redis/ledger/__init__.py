"""The ledger in Redis: a queue of what ended, folded into single entries by day and sums of days.

Every shard has a ledger of its own, in one hash slot. All times are ms since the Unix epoch.

| key `az:{SHARD}:...` | holds |
|---|---|
| `closed` | the queue: what the scripts of the counters add when a reservation ends |
| `d:meta` | `turn` (a name for the present state), `timezone`, `retention`, `kept_from`, `sums` |
| `d:days` | UTC days of which there are single entries, and how far each is |
| `d:e:DAY` | the entries of a UTC day, a stream |
| `d:i:DAY:N` | where in it an id is |
| `d:s:GENERATION` | the local days of which there are sums; `sums` says which generation is in force |
| `d:s:GENERATION:DAY` | the sums of a local day, by group |
| `d:unreadable` | ends that no entry can be made of |

Whoever changes a ledger reads it, thinks the change out, and has one script write all of it if the turn is
still the one that was read. So any number of processes may fold at any time, and die at any time.
"""
