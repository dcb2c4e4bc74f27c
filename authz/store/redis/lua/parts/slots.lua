-- Concurrency: a sorted set of who holds a slot, by deadline.

local function last_deadline(name)
  local last = call('ZRANGE', name, -1, -1, 'WITHSCORES')[2]
  return last and tonumber(last)
end

-- Take a slot, or keep it until another deadline.
local function take_slot(name, id, deadline)
  call('ZADD', name, deadline, id)
  call('PEXPIRE', name, max(0, last_deadline(name) - now) + GRACE)
end
