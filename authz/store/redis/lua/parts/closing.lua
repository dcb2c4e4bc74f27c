-- One end of one reservation, on its way into the ledger: the fields of `Closed` (authz/store/closed.py).
-- Without facts it is no entry there. Tells how many entries that makes.
local function close(record, ended_at, note, expired, late)
  if record.facts == '' then
    return 0
  end
  local function binary(bytes) -- cmsgpack does not tell bytes from text
    return '\198' .. encode('>I4', #bytes) .. bytes
  end
  local closed = '\152' .. cmsgpack.pack(record.id, record.gateway, record.created, ended_at)
    .. binary(record.facts) .. binary(note) .. cmsgpack.pack(expired, late)
  call('XADD', shard .. 'closed', '*', 'c', closed)
  return 1
end
