-- Concurrency: a sorted set of who holds a slot, by deadline.

-- Slots taken now. Those that are over are given up: a clock that steps back brings none to life again.
local function count_slots(name)
  local all = call('ZCARD', name)
  local over = all > 0 and call('ZCOUNT', name, '-inf', now) or 0
  if over > 0 then
    call('ZREMRANGEBYSCORE', name, '-inf', now)
  end
  return all - over
end

local function last_deadline(name)
  local last = call('ZRANGE', name, -1, -1, 'WITHSCORES')[2]
  return last and tonumber(last)
end

-- Take a slot, or keep it until another deadline.
local function take_slot(name, id, deadline)
  call('ZADD', name, deadline, id)
  call('PEXPIRE', name, max(0, last_deadline(name) - now) + GRACE)
end

local function wait_for_slot(hold, name)
  if hold[QUOTA] <= 0 then
    return -1
  end
  return max(1, tonumber(call('ZRANGE', name, 0, 0, 'WITHSCORES')[2]) - now)
end

local function slots_reset(name)
  local last = last_deadline(name)
  return last and max(0, last - now) or 0
end
